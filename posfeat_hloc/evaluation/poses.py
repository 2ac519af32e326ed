"""Camera poses against true cameras: of a model, after alignment, or of localized queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.geometry.rotations import rotation_angle


@dataclass(frozen=True)
class TrueCamera:
    """A camera of known pose: ``x = K R (X - centre)``.

    Attributes:
        rotation: ``(3, 3)`` world to camera.
        centre: ``(3,)`` in the world, in the unit of the data set.
    """

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]


@dataclass(frozen=True)
class PoseErrors:
    """Errors of poses.

    Attributes:
        names: of the images, sorted.
        rotation: ``(N,)`` degrees.
        position: ``(N,)`` in the unit of the true cameras; infinite for queries without a pose.
    """

    names: list[str]
    rotation: NDArray[np.float64]
    position: NDArray[np.float64]


def read_strecha_cameras(folder: Path) -> dict[str, TrueCamera]:
    """Read ``<image>.camera`` files: three rows of K, a row of zeros, three rows of R^T, the centre, the size.

    Raises:
        MappingError: there are none, or one cannot be read.
    """
    cameras = {}
    for path in sorted(folder.glob("*.camera")):
        try:
            rows = [[float(v) for v in line.split()] for line in path.read_text().splitlines() if line.strip()]
            cameras[path.name.removesuffix(".camera")] = TrueCamera(np.array(rows[4:7]).T, np.array(rows[7]))
        except (ValueError, IndexError) as error:
            raise MappingError(f"{path}: not a camera file of Strecha's form ({error})") from error
    if not cameras:
        raise MappingError(f"{folder}: holds no *.camera files")
    return cameras


def pose_errors(model: pycolmap.Reconstruction, truth: Mapping[str, TrueCamera]) -> PoseErrors:
    """Align a model to true cameras and compare all poses.

    Positions are aligned by the similarity that fits the camera centres best (Umeyama), rotations by the rotation
    that fits all rotations best: cameras on an arc barely fix the turn about its chord by their centres alone.

    Raises:
        MappingError: fewer than three images in common, or no similarity fits their centres.
    """
    images = {image.name: image for image in model.images.values() if image.has_pose and image.name in truth}
    names = sorted(images)
    if len(names) < 3:
        raise MappingError(f"only {len(names)} images have both a pose and a true camera; three are needed")
    estimated = np.array([images[name].projection_center() for name in names])
    true = np.array([truth[name].centre for name in names])
    similarity = pycolmap.estimate_sim3d(estimated, true)
    if similarity is None:
        raise MappingError("no similarity fits the camera centres")
    moved = similarity * estimated
    rotations = [images[name].cam_from_world().rotation.matrix() for name in names]
    turn = _nearest_rotation(sum(truth[n].rotation.T @ r for n, r in zip(names, rotations, strict=True)))
    angles = [rotation_angle(r @ turn.T @ truth[n].rotation.T) for n, r in zip(names, rotations, strict=True)]
    return PoseErrors(names, np.array(angles), np.linalg.norm(moved - true, axis=1))


def localization_errors(poses: Mapping[str, pycolmap.Rigid3d], truth: Mapping[str, TrueCamera]) -> PoseErrors:
    """Errors of all queries whose pose is known, without alignment.

    A query without a pose has an infinite position error and 180 degrees, as in hloc's evaluation.
    """
    names = sorted(truth)
    rotation, position = np.full(len(names), 180.0), np.full(len(names), np.inf)
    for i, name in enumerate(names):
        if name in poses:
            rotation[i] = rotation_angle(poses[name].rotation.matrix() @ truth[name].rotation.T)
            position[i] = np.linalg.norm(poses[name].inverse().translation - truth[name].centre)
    return PoseErrors(names, rotation, position)


def recall(errors: PoseErrors, thresholds: Sequence[tuple[float, float]]) -> list[float]:
    """Share of images within each (position, degrees) threshold, the bounds included."""
    return [float(np.mean((errors.position <= p) & (errors.rotation <= r))) for p, r in thresholds]


def _nearest_rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, v = np.linalg.svd(matrix)
    return np.asarray(u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v, np.float64)
