"""A miniature Aachen: a rendered square with known cameras, in the files of v1 and v1.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.aachen.options import MiniatureOptions
from posfeat_hloc.aachen.posed_collection import TrueQuery, build_model, write_dataset
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
