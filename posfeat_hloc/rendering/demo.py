"""Photographs of a rendered town square, for a first run without any photographs at hand."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera, pose_errors
from posfeat_hloc.rendering.textured_planes import TexturedPlane
from posfeat_hloc.rendering.town_square import photograph, pose_towards, save_jpeg, town_square
from posfeat_hloc.runtime.progress import Bar

VIEWS = 10
QUERIES = "queries"
"""Folder of the photographs to localize, in the output folder."""
SIZE = (640, 480)
_FOCAL_35MM = 28  # as EXIF says it, for a diagonal of 43.27 mm
_TEXELS = 80.0  # for a metre: as fine as pixels at the blocks


def write_photographs(folder: Path, progress: bool = True) -> dict[str, TrueCamera]:
    """Render what is not there yet, always the same images; returns the true cameras by name, in metres."""
    poses = _poses()
    _write(folder, poses, progress)
    return {name: TrueCamera(pose.rotation.matrix(), pose.inverse().translation) for name, pose in poses.items()}


def write_queries(folder: Path) -> None:
    """Render photographs from other places, to be localized in the model of the others."""
    _write(folder, _query_poses(), progress=False)


def _write(folder: Path, poses: dict[str, pycolmap.Rigid3d], progress: bool) -> None:
    """Render the images that do not exist yet."""
    planes = None
    for name, pose in Bar(poses.items(), desc="render", unit="image", disable=not progress):
        if (folder / name).exists():
            continue
        planes = planes or _square()
        partial = folder / f".{name}"  # hidden from the list of images; a killed run leaves no incomplete image
        save_jpeg(partial, photograph(planes, _camera(), pose), _exif())
        partial.replace(folder / name)


@cache
def _square() -> list[TexturedPlane]:
    return town_square(np.random.default_rng(7), texels=_TEXELS, houses=True)


def relative_errors(errors: PoseErrors, truth: dict[str, TrueCamera]) -> dict[str, float]:
    """Medians of the errors: degrees, and distances as a part of the path of the cameras."""
    path = sum(float(np.linalg.norm(b.centre - a.centre)) for a, b in pairwise(truth.values()))
    return {
        "images": len(errors.names),
        "median_rotation": float(np.median(errors.rotation)),
        "median_position": float(np.median(errors.position)) / path,
    }


def compare(model: pycolmap.Reconstruction, truth: dict[str, TrueCamera]) -> dict[str, float] | None:
    """Median errors of a model; None where it holds too few images to align."""
    try:
        return relative_errors(pose_errors(model, truth), truth)
    except MappingError:
        return None


def _poses() -> dict[str, pycolmap.Rigid3d]:
    """Cameras on an arc before the square, held by hand, which look across it."""
    rng = np.random.default_rng(1)
    poses = {}
    for number, x in enumerate(np.linspace(-5.5, 5.5, VIEWS)):
        centre = np.array([x, 0, 0.05 * x**2 - 2.5]) + rng.uniform(-0.3, 0.3, size=3)
        target = np.array([0.25 * x, -0.6, 10.0])
        poses[f"square_{number + 1:02d}.jpg"] = pose_towards(centre, target, roll=rng.normal(0, 0.04))
    return poses


def _query_poses() -> dict[str, pycolmap.Rigid3d]:
    """Three cameras nearer to the houses, between those of the photographs."""
    places = ((-3.2, 0.0, 0.6), (0.4, -0.5, -0.4), (3.6, 0.1, 0.9))
    targets = ((-2.0, -1.2, 11.0), (1.5, -1.6, 11.0), (2.0, -0.6, 11.0))
    return {
        f"query_{number}.jpg": pose_towards(np.array(place), np.array(target), roll=0.02)
        for number, (place, target) in enumerate(zip(places, targets, strict=True), 1)
    }


def _camera() -> pycolmap.Camera:
    width, height = SIZE
    params = [_FOCAL_35MM / 43.27 * np.hypot(width, height), width / 2, height / 2, -0.02]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=params)


def _exif() -> bytes:
    """Camera and focal length, as of a photograph."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "posfeat_hloc", "rendered"  # make and model
    exif.get_ifd(0x8769)[0xA405] = _FOCAL_35MM
    return exif.tobytes()
