"""A map of random 3D points with exact poses, and queries that see it; no images are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.features import Features, Matches
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair

WIDTH, HEIGHT, FOCAL = 1000, 800, 900.0
CONFIGURATION = {"model": {"name": "test"}, "weights": "", "preprocessing": {}}


def camera(focal: float = FOCAL, model: str = "SIMPLE_PINHOLE") -> pycolmap.Camera:
    made = pycolmap.Camera.create_from_model_name(1, model, focal, WIDTH, HEIGHT)
    made.has_prior_focal_length = True
    return made


def look(x: float, y: float = 0.0, turn: float = 0.0) -> pycolmap.Rigid3d:
    """A camera at (x, y, 0) that looks along z, turned about the vertical axis by ``turn`` radians."""
    rotation = pycolmap.Rotation3d(np.array([0.0, turn, 0.0]))
    return pycolmap.Rigid3d(rotation, -(rotation.matrix() @ np.array([x, y, 0.0])))


@dataclass
class Scene:
    """Files of a map and its queries in a folder; everything is known exactly."""

    folder: Path
    points: np.ndarray
    poses: dict[str, pycolmap.Rigid3d]
    keypoints: dict[str, np.ndarray]
    seen: dict[str, np.ndarray]  # 3D point of each keypoint, -1 for none
    queries: list[Query] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.folder / "sparse"

    @property
    def features(self) -> Path:
        return self.folder / "features.h5"

    @property
    def matches(self) -> Path:
        return self.folder / "matches.h5"

    @property
    def names(self) -> list[str]:
        return [query.name for query in self.queries]


def project(points: np.ndarray, pose: pycolmap.Rigid3d, view: pycolmap.Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ((0, 0) is the centre of the top-left one) of the points that lie in the image, and their rows."""
    pixels = np.array([view.img_from_cam(p) if p[2] > 0.1 else (-1, -1) for p in points @ pose.rotation.matrix().T
                       + pose.translation])  # fmt: skip
    inside = np.flatnonzero((pixels >= 0).all(axis=1) & (pixels[:, 0] < WIDTH) & (pixels[:, 1] < HEIGHT))
    return (pixels[inside] - 0.5).astype(np.float32), inside


def features_of(keypoints: np.ndarray) -> Features:
    count = len(keypoints)
    return Features(keypoints, np.ones(count, np.float32), np.zeros((count, 4), np.float32))


def make_scene(
    folder: Path,
    map_poses: dict[str, pycolmap.Rigid3d],
    query_poses: dict[str, pycolmap.Rigid3d],
    outliers: float = 0.3,
    noise: float = 0.0,
    points: np.ndarray | None = None,
    seed: int = 0,
) -> Scene:
    """Write the model, one feature file and one match file of all (query, map image) pairs.

    Each image has 20 keypoints without a 3D point between the others; a share of the matches is wrong.
    """
    rng = np.random.default_rng(seed)
    if points is None:
        points = rng.uniform([-4, -3, 5], [4, 3, 10], (150, 3))
    poses = {**map_poses, **query_poses}
    keypoints, seen = {}, {}
    view = camera()
    for name, pose in poses.items():
        pixels, rows = project(points, pose, view)
        empty = rng.uniform(0, [WIDTH, HEIGHT], (20, 2)).astype(np.float32)
        order = rng.permutation(len(rows) + 20)
        jitter = rng.normal(0, noise, pixels.shape) if name in query_poses else 0
        keypoints[name] = np.concatenate([pixels + jitter, empty])[order].astype(np.float32)
        seen[name] = np.concatenate([rows, np.full(20, -1)])[order]
    scene = Scene(folder, points, poses, keypoints, seen)
    scene.queries = [Query(name, camera()) for name in query_poses]
    scene.pairs = [(query, image) for query in query_poses for image in map_poses]
    write_model(scene, list(map_poses))
    with FeatureStore(scene.features, CONFIGURATION) as store:
        for name in poses:
            store.write(name, features_of(keypoints[name]), (WIDTH, HEIGHT))
        store.commit()
    with MatchStore(scene.matches, {"model": {"name": "truth"}}) as store:
        for query, image in scene.pairs:
            store.write(query, image, true_matches(scene, query, image, outliers, rng), len(keypoints[image]))
        store.commit()
    return scene


def true_matches(scene: Scene, query: str, image: str, outliers: float, rng: np.random.Generator) -> Matches:
    where = {point: row for row, point in enumerate(scene.seen[image]) if point >= 0}
    indices = np.array([where.get(point, -1) for point in scene.seen[query]], np.int64)
    wrong = (rng.uniform(size=len(indices)) < outliers) & (indices >= 0)
    indices[wrong] = rng.integers(0, len(scene.keypoints[image]), wrong.sum())
    return Matches(indices, (indices >= 0).astype(np.float32))


def write_model(scene: Scene, names: list[str]) -> None:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera())
    for number, name in enumerate(names, start=1):
        image = pycolmap.Image(name, scene.keypoints[name].astype(np.float64) + 0.5, camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, scene.poses[name])
    for point, position in enumerate(scene.points):
        track = pycolmap.Track()
        for number, name in enumerate(names, start=1):
            for row in np.flatnonzero(scene.seen[name] == point):
                track.add_element(number, int(row))
        if track.length() >= 1:
            model.add_point3D(position, track)
    scene.model.mkdir(parents=True)
    model.write(scene.model)


def pose_error(found: pycolmap.Rigid3d, true: pycolmap.Rigid3d) -> tuple[float, float]:
    """Distance of the centres and angle in degrees."""
    relative = found.rotation.inverse() * true.rotation
    angle = np.degrees(2 * np.arctan2(np.linalg.norm(relative.quat[:3]), abs(relative.quat[3])))
    return float(np.linalg.norm(found.inverse().translation - true.inverse().translation)), float(angle)
