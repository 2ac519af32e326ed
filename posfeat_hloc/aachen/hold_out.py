"""A data set in Aachen's form from photographs with a COLMAP model: some become queries, the model is their truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from posfeat_hloc.aachen.miniature import refuse_to_overwrite
from posfeat_hloc.aachen.posed_collection import TrueQuery, build_model, write_dataset
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.rendering.town_square import as_night, save_jpeg
from posfeat_hloc.sfm.models import read_model


def hold_out(
    root: Path, model: Path, images: Path, every: int = 4, seed: int = 0, layout: str = "hloc"
) -> tuple[list[TrueQuery], float]:
    """Write a data set in which each ``every``-th image of a model, in the order of the names, is a query.

    The queries' cameras, poses and observations leave the database model. Each query appears twice, as it is and as a
    night image made of it. Names lose their folders and spaces, as result files and lists need it.

    Args:
        root: a new or empty folder.
        model: COLMAP model of all images.
        images: their folder.
        every: 4 holds out a quarter.
        seed: of the night pictures.
        layout: ``hloc`` or ``posfeat``.

    Returns:
        the queries, and the size of the scene: the largest distance between two cameras of the model.

    Raises:
        MappingError: there is no model.
        ConfigurationError: ``root`` holds something, an image is missing, or too few images would stay.
        ImageError: a query cannot be read.
    """
    refuse_to_overwrite(root)
    full = read_model(model)
    posed = sorted((image for image in full.images.values() if image.has_pose), key=lambda image: image.name)
    if missing := [image.name for image in posed if not (images / image.name).is_file()]:
        raise ConfigurationError(f"{images}: lacks {len(missing)} images of {model}, the first is {missing[0]}")
    held = posed[every // 2 :: every]
    kept = [image for image in posed if image not in held]
    if every < 2 or not held or len(kept) < 2:
        raise ConfigurationError(
            f"{model}: with every {every}th of {len(posed)} images as a query, {len(kept)} stay; two are needed"
        )
    folder = root / "images_upright" if layout == "hloc" else root / "images/images_upright"
    rng = np.random.default_rng(seed)
    queries = []
    for image in held:
        camera, name = full.cameras[image.camera_id], _flat(image.name)
        day, night = f"query/day/held_out/{name}", f"query/night/made/{Path(name).stem}_night.jpg"
        _copy(images / image.name, folder / day)
        picture = read_image(images / image.name, upright=False).pixels
        with Image.open(images / image.name) as file:
            save_jpeg(folder / night, as_night(picture, rng), exif=file.getexif().tobytes())
        queries += [TrueQuery(day, "day", camera, image.cam_from_world())]
        queries += [TrueQuery(night, "night", camera, image.cam_from_world())]
    for image in kept:
        _copy(images / image.name, folder / "db" / _flat(image.name))
    write_dataset(root, _without(full, kept), queries, layout)
    centres = np.array([image.projection_center() for image in posed])
    size = np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()
    return queries, float(size)


def _without(full: pycolmap.Reconstruction, kept: list[pycolmap.Image]) -> pycolmap.Reconstruction:
    """The model of the images that stay, with the points that two of them see."""
    index = {point_id: i for i, point_id in enumerate(sorted(full.points3D))}
    points = np.array([full.points3D[i].xyz for i in index]).reshape(-1, 3)
    colors = np.array([full.points3D[i].color for i in index], np.uint8).reshape(-1, 3)
    images = [(f"db/{_flat(image.name)}", full.cameras[image.camera_id], image.cam_from_world()) for image in kept]
    observations = [
        [(index[p.point3D_id], np.asarray(p.xy)) for p in image.points2D if p.has_point3D()] for image in kept
    ]
    return build_model(images, points, colors, observations)


def _flat(name: str) -> str:
    return "_".join(name.replace("/", "_").split())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
