"""A small rendered scene from images to a model, by the default feature, compared with the true cameras."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pycolmap

from posfeat_hloc import confs
from posfeat_hloc.doctor.requirements import Finding
from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera, pose_errors
from posfeat_hloc.extract_features import extract
from posfeat_hloc.geometry.rotations import look_at
from posfeat_hloc.images.resampling import Photograph
from posfeat_hloc.match_features import match
from posfeat_hloc.rendering.textured_planes import Camera, TexturedPlane, random_scene, render
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.database import build_database, verify
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct
from posfeat_hloc.training.posed_pairs import Array

SIZE = (480, 360)
VIEWS = 4
MAX_ROTATION = 0.5
"""Degrees that no camera may be turned away from the truth; a sound installation stays some ten times below."""
MAX_POSITION = 0.02
"""Distance of a camera from its true place that is allowed, as a part of the length of the path of the cameras."""

REMEDY = "install the tested versions (pip install -c constraints.txt .) and try again; if it stays so, report it"


def run() -> Finding:
    """Render, extract, match, verify, reconstruct and compare, in a temporary folder; some seconds on two cores."""
    start = time.perf_counter()
    cameras = arc(VIEWS)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        write_images(work / "images", cameras)
        try:
            with _quiet_colmap():
                errors = pose_errors(read_model(_reconstruct(work, cameras[0])), truth(cameras))
        except MappingError as error:
            return Finding("fail", f"no model to compare: {error}", REMEDY)
    return judge(errors, cameras, time.perf_counter() - start)


def judge(errors: PoseErrors, cameras: list[Camera], seconds: float) -> Finding:
    """The finding for the errors of a model; ``seconds`` are printed, too."""
    path = sum(np.linalg.norm(_centre(b) - _centre(a)) for a, b in pairwise(cameras))
    rotation, position = errors.rotation.max(), errors.position.max() / path
    text = (
        f"{len(errors.names)} of {len(cameras)} views placed in {seconds:.0f} s: errors of rotation {rotation:.2f} "
        f"degrees (allowed {MAX_ROTATION:g}), of position {100 * position:.2f} % of the path (allowed "
        f"{100 * MAX_POSITION:g})"
    )
    right = len(errors.names) == len(cameras) and rotation <= MAX_ROTATION and position <= MAX_POSITION
    return Finding("ok", text) if right else Finding("fail", text, REMEDY)


def arc(views: int) -> list[Camera]:
    """Cameras of one kind on an arc before the scene, all looking at the same point."""
    focal = 1.1 * SIZE[0]
    K = np.array([[focal, 0, (SIZE[0] - 1) / 2], [0, focal, (SIZE[1] - 1) / 2], [0, 0, 1]])
    focus = np.array([0, 0, 0.8])
    cameras = []
    for angle in np.linspace(-0.2, 0.2, views):
        centre = focus - 0.8 * np.array([np.sin(angle), 0.1 * np.cos(9 * angle), np.cos(angle)])
        R = look_at(centre, focus)
        cameras.append(Camera(K, R, -R @ centre, SIZE))
    return cameras


def truth(cameras: list[Camera]) -> dict[str, TrueCamera]:
    """The true cameras by the names of their images."""
    return {_name(i): TrueCamera(camera.R, _centre(camera)) for i, camera in enumerate(cameras)}


def write_images(folder: Path, cameras: list[Camera]) -> None:
    """Render the scene as the cameras see it into ``folder``."""
    folder.mkdir()
    planes = _scene()
    for i, camera in enumerate(cameras):
        cv2.imwrite(str(folder / _name(i)), render(planes, camera)[..., ::-1])


def _scene() -> list[TexturedPlane]:
    rng = np.random.default_rng(3)
    middle = Camera(arc(3)[1].K, np.eye(3), np.zeros(3), SIZE)
    return random_scene(rng, [_texture(rng) for _ in range(4)], middle, objects=(5, 5), boxes=0.4)


def _texture(rng: np.random.Generator, width: int = 800, height: int = 600) -> Photograph:
    """``(height, width, 3)`` uint8: noise of several scales, with blobs and corners at all of them."""
    picture = np.zeros((height, width), np.float32)
    for cell in (4, 9, 20, 45):
        noise = rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(cell**0.4)
    low, high = np.percentile(picture, (1, 99))
    grey = np.clip((picture - low) / (high - low) * 255, 0, 255)
    return np.asarray(grey[..., None] * rng.uniform(0.6, 1.0, size=3), np.uint8)


def _reconstruct(work: Path, camera: Camera) -> Path:
    """Folder of the largest model of ``work/images``; MappingError when there is none."""
    feature = deepcopy(confs.extractors[confs.DEFAULT_FEATURE])
    feature["model"]["max_keypoints"] = 2048
    features, matches, database = work / "features.h5", work / "matches.h5", work / "database.db"
    report = extract(feature, work / "images", features, progress=False)
    pairs = exhaustive_pairs(report.names)
    match(confs.matchers[confs.default_matchers[confs.DEFAULT_FEATURE]], pairs, features, matches, progress=False)
    centre = camera.K[:2, 2] + 0.5  # COLMAP's pixels
    intrinsics = CameraOptions("single", "PINHOLE", (camera.K[0, 0], camera.K[1, 1], *centre))
    build_database(database, work / "images", features, matches, report.names, pairs, intrinsics, progress=False)
    verify(database)
    models = reconstruct(
        database, work / "images", work / "sparse", MapperOptions(refine_intrinsics=False), progress=False
    )
    if not models:
        raise MappingError("the mapper gave no model of the rendered scene")
    return Path(models[0].path)


@contextmanager
def _quiet_colmap() -> Iterator[None]:
    """Keep COLMAP's log off the terminal: a small scene brings harmless warnings."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _centre(camera: Camera) -> Array:
    return np.asarray(-camera.R.T @ camera.t, np.float64)


def _name(number: int) -> str:
    return f"view_{number}.bmp"  # once pycolmap 4.2 is loaded, writing a PNG with OpenCV mixes two zlibs and aborts
