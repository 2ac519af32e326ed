"""Small data sets in Aachen's form: a rendered square, or photographs with a model of which some become queries."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.aachen.colmap_files import write_prepared
from posfeat_hloc.aachen.nvm import write_nvm
from posfeat_hloc.aachen.options import MiniatureOptions
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.rendering.town_square import (
    as_night,
    photograph,
    random_points,
    random_pose,
    save_jpeg,
    town_square,
    visible_points,
)
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores.pairs import Pair, write_pairs

TRUTH = "ground_truth.txt"

_PAIRS = 20  # of each image, as in the challenge

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrueQuery:
    """A query whose pose is known.

    Attributes:
        name: relative to the image folder.
        kind: ``day`` or ``night``.
        camera: its intrinsics.
        pose: world to camera.
    """

    name: str
    kind: str
    camera: pycolmap.Camera
    pose: pycolmap.Rigid3d


def build_model(
    images: list[tuple[str, pycolmap.Camera, pycolmap.Rigid3d]],
    points: Array,
    colors: NDArray[np.uint8],
    observations: list[list[tuple[int, Array]]],
) -> pycolmap.Reconstruction:
    """A COLMAP model with a camera of its own for each image.

    Args:
        images: name, camera and pose (world to camera); ids are 1, 2, ... in this order.
        points: ``(N, 3)``.
        colors: ``(N, 3)`` RGB.
        observations: for each image (index of the point, place in COLMAP's pixels); points seen by fewer than two
            images are left out.
    """
    model = pycolmap.Reconstruction()
    tracks: dict[int, pycolmap.Track] = {}
    for number, ((name, camera, pose), seen) in enumerate(zip(images, observations, strict=True), start=1):
        own = pycolmap.Camera(
            camera_id=number, model=camera.model, width=camera.width, height=camera.height, params=camera.params
        )
        model.add_camera_with_trivial_rig(own)
        places = np.array([place for _, place in seen], np.float64).reshape(-1, 2)
        image = pycolmap.Image(name=name, keypoints=places, camera_id=number, image_id=number)
        model.add_image_with_trivial_frame(image, pose)
        for i, (point, _) in enumerate(seen):
            tracks.setdefault(point, pycolmap.Track()).add_element(number, i)
    for point, track in sorted(tracks.items()):
        if len({element.image_id for element in track.elements}) > 1:
            model.add_point3D(points[point], track, colors[point])
    return model


def write_dataset(root: Path, model: pycolmap.Reconstruction, queries: list[TrueQuery], layout: str = "hloc") -> None:
    """Write all files of v1 and v1.1 but the images, and ``ground_truth.txt`` with the poses of the queries.

    Args:
        root: of the data set.
        model: of the database images.
        queries: of the day and of the night.
        layout: ``hloc`` (as unpacked, with the files of the challenge beside it), or ``posfeat`` (its repository's).
    """
    models = root / "3D-models"
    v1 = models / "aachen_v_1" if layout == "posfeat" else models
    v1_1 = models / "aachen_v_1_1"
    challenge = root / "others" if layout == "posfeat" else root
    for folder in (v1, v1_1, challenge, root / "queries"):
        folder.mkdir(parents=True, exist_ok=True)
    images = {image.name: image for _, image in sorted(model.images.items())}
    cameras = {name: model.cameras[image.camera_id] for name, image in images.items()}
    write_nvm(v1 / "aachen_cvpr2018_db.nvm", model)
    _write_cameras(v1 / "database_intrinsics.txt", cameras.items())
    model.write(v1_1)
    _write_cameras(v1_1 / "database_intrinsics_v1_1.txt", cameras.items())
    suffix = "_v1_1" if layout == "posfeat" else ""
    for kind, ending in (("day", ""), ("night", ""), ("night", suffix)):
        path = root / "queries" / f"{kind}_time_queries_with_intrinsics{ending}.txt"
        _write_cameras(path, ((query.name, query.camera) for query in queries if query.kind == kind))
    pairs = _pairs(model, [query for query in queries if query.kind == "night"])
    prepared = {**cameras, **{query.name: query.camera for query in queries}}
    for ending in ("", "_v1_1"):
        write_pairs(challenge / f"image_pairs_to_match{ending}.txt", pairs)
        write_prepared(challenge / f"database{ending}.db", prepared)
    if layout == "hloc":
        write_prepared(root / "aachen.db", prepared)  # hloc takes the ids of v1's images from it
    lines = (f"{query.name} {_pose(query.pose)}\n" for query in queries)
    (root / TRUTH).write_text("".join(lines), encoding="utf-8")


def _write_cameras(path: Path, cameras: Iterable[tuple[str, pycolmap.Camera]]) -> None:
    """One line for each image: name, COLMAP's model, width, height, parameters."""
    lines = []
    for name, camera in cameras:
        params = " ".join(repr(float(value)) for value in camera.params)
        lines.append(f"{name} {camera.model_name} {camera.width} {camera.height} {params}\n")
    path.write_text("".join(lines), encoding="utf-8")


def _pose(pose: pycolmap.Rigid3d) -> str:
    x, y, z, w = pose.rotation.quat
    return " ".join(repr(float(value)) for value in (w, x, y, z, *pose.translation))


def _pairs(model: pycolmap.Reconstruction, queries: list[TrueQuery]) -> list[Pair]:
    """Each image with the database images that share most 3D points with it."""
    images = sorted(model.images.values(), key=lambda image: image.name)
    point_ids = sorted(model.points3D)
    points = np.array([model.points3D[i].xyz for i in point_ids]).reshape(-1, 3)
    row = {image.image_id: i for i, image in enumerate(images)}
    seen = np.zeros((len(images), len(points)), np.float32)
    for column, i in enumerate(point_ids):
        for element in model.points3D[i].track.elements:
            seen[row[element.image_id], column] = 1
    by_queries = np.zeros((len(queries), len(points)), np.float32)
    for i, query in enumerate(queries):
        local = query.pose * points
        places = np.asarray(query.camera.img_from_cam(local))
        limits = (query.camera.width, query.camera.height)
        by_queries[i] = (local[:, 2] > 0) & (places > 0).all(axis=1) & (places < limits).all(axis=1)
    pairs: dict[frozenset[str], Pair] = {}
    names = [image.name for image in images]
    for name, shared in zip(
        [*names, *(query.name for query in queries)], np.concatenate([seen, by_queries]) @ seen.T, strict=True
    ):
        best = [j for j in np.argsort(-shared, kind="stable") if shared[j] > 0 and names[j] != name]
        for j in best[:_PAIRS]:
            pairs.setdefault(frozenset((name, names[j])), (name, names[j]))
    return list(pairs.values())


_NEAREST = 8.0  # metres: nearer walls are blurred, as their textures have no more detail


def make_miniature(
    root: Path, options: MiniatureOptions | None = None, photos: Path | None = None, progress: bool = True
) -> list[TrueQuery]:
    """Render all images and write all files; the unit of the scene is the metre.

    Args:
        root: a new or empty folder.
        options: see :class:`MiniatureOptions`.
        photos: folder of photographs for the textures; painted when None.
        progress: show a bar.

    Returns:
        the queries with their true poses.

    Raises:
        ConfigurationError: ``root`` holds something, or ``photos`` no images.
        ImageError: a photograph cannot be read.
    """
    options = options or MiniatureOptions()
    refuse_to_overwrite(root)
    rng = np.random.default_rng(options.seed)
    textures = [] if photos is None else [read_image(photos / name).pixels for name in list_images(photos)[:40]]
    planes = town_square(rng, textures, texels=max(options.size) / _NEAREST)
    points, owners = random_points(rng, planes, options.points)
    folder = root / "images_upright" if options.layout == "hloc" else root / "images/images_upright"
    names = [f"db/{i + 1}.jpg" for i in range(options.database)]
    names += [f"query/day/milestone/IMG_day_{i:04d}.jpg" for i in range(options.queries)]
    names += [f"query/night/nexus5x/IMG_night_{i:04d}.jpg" for i in range(options.queries)]
    images, observations, queries = [], [], []
    colors = np.full((len(points), 3), 128, np.uint8)
    for number, name in enumerate(Bar(names, desc="render", unit="image", disable=not progress)):
        camera = _camera(options.size, is_query=name.startswith("query"), upright=number % 3 == 2)
        pose = random_pose(rng)
        picture = photograph(planes, camera, pose)
        if name.startswith("db/"):
            seen, places = visible_points(planes, points, owners, camera, pose)
            x, y = places[seen].astype(int).T  # the pixel that holds the place: COLMAP counts from its corner
            colors[seen] = picture[y, x]
            images.append((name, camera, pose))
            observations.append([(int(i), places[i]) for i in np.flatnonzero(seen)])
        else:
            queries.append(TrueQuery(name, name.split("/")[1], camera, pose))
            if queries[-1].kind == "night":
                picture = as_night(picture, rng)
        save_jpeg(folder / name, picture)
    write_dataset(root, build_model(images, points, colors, observations), queries, options.layout)
    return queries


def refuse_to_overwrite(root: Path) -> None:
    """Raise ConfigurationError when a folder holds anything."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigurationError(f"{root}: is not empty; choose a new folder")


def _camera(size: tuple[int, int], is_query: bool, upright: bool) -> pycolmap.Camera:
    """Phones see wider than the cameras of the database, with more distortion; as on Aachen, all are SIMPLE_RADIAL."""
    width, height = (size[1], size[0]) if upright else size
    focal, radial = (0.75, -0.032) if is_query else (0.8, -0.02)
    params = [focal * max(size), width / 2, height / 2, radial]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=params)


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
