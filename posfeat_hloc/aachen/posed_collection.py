"""A map and queries with known poses, and how they are written as an Aachen data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.aachen.nvm import write_nvm
from posfeat_hloc.aachen.options import Layout
from posfeat_hloc.aachen.prepared_database import write_prepared
from posfeat_hloc.stores.pairs import Pair, write_pairs

LAYOUTS = get_args(Layout)
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
