"""Relative pose of two calibrated images from their matches, its error, and the area under the recall curve (AUC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.posed_lists import PosedImagePair
from posfeat_hloc.geometry.rotations import rotation_angle
from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix

ESTIMATORS = {
    "opencv-ransac": "OpenCV findEssentialMat, RANSAC (SuperGlue's)",
    "opencv-magsac": "OpenCV findEssentialMat, USAC_MAGSAC",
    "pycolmap": "COLMAP's LO-RANSAC with the tangent Sampson error",
}
"""Name -> what it is; results of different estimators do not compare."""

AUC_DEGREES = (5, 10, 20)
PRECISION_THRESHOLD = 5e-4
"""Symmetric squared epipolar distance in normalised coordinates below which a match is right (SuperGlue's)."""

Pose = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class EstimatorOptions:
    """How a pose is estimated; ConfigurationError for an estimator or threshold that makes no sense."""

    name: str = "opencv-ransac"
    """One of :data:`ESTIMATORS`."""
    threshold: float = 1.0
    """Inlier threshold in pixels of the images as stored (SuperGlue: of the images as resized)."""
    confidence: float = 0.99999
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in ESTIMATORS:
            raise ConfigurationError(f"estimator {self.name!r} does not exist; choose from {', '.join(ESTIMATORS)}")
        if not self.threshold > 0:
            raise ConfigurationError(f"the inlier threshold is a positive number of pixels, not {self.threshold}")


def estimate_pose(
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
    intrinsics0: NDArray[np.float64],
    intrinsics1: NDArray[np.float64],
    options: EstimatorOptions,
) -> Pose | None:
    """Rotation and direction of translation from camera 0 to camera 1; None when no pose fits.

    Args:
        points0, points1: ``(M, 2)`` matched keypoints in pixels.
        intrinsics0, intrinsics1: 3x3.
    """
    if len(points0) < 5:
        return None
    if options.name == "pycolmap":
        return _estimate_with_colmap(points0, points1, intrinsics0, intrinsics1, options)
    rays0, rays1 = _normalized(points0, intrinsics0), _normalized(points1, intrinsics1)
    focal = np.mean([intrinsics0[0, 0], intrinsics0[1, 1], intrinsics1[0, 0], intrinsics1[1, 1]])
    method = cv2.RANSAC if options.name == "opencv-ransac" else cv2.USAC_MAGSAC
    cv2.setRNGSeed(options.seed)
    try:
        essential, mask = cv2.findEssentialMat(
            rays0, rays1, np.eye(3), method=method, prob=options.confidence, threshold=options.threshold / focal
        )
    except cv2.error:  # degenerate points
        return None
    if essential is None:
        return None
    best, found = 0, None
    for candidate in essential.reshape(-1, 3, 3):  # several where RANSAC could not tell
        count, rotation, translation, _ = cv2.recoverPose(candidate, rays0, rays1, np.eye(3), 1e9, mask=mask.copy())
        if count > best:
            best, found = count, (np.asarray(rotation, np.float64), np.asarray(translation[:, 0], np.float64))
    return found


def _estimate_with_colmap(
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
    intrinsics0: NDArray[np.float64],
    intrinsics1: NDArray[np.float64],
    options: EstimatorOptions,
) -> Pose | None:
    cameras = []
    for k in (intrinsics0, intrinsics1):
        size = [int(np.ceil(2 * v)) + 1 for v in (k[0, 2], k[1, 2])]  # not used by the estimation
        camera = pycolmap.Camera(model="PINHOLE", width=size[0], height=size[1], params=[k[0, 0], k[1, 1], *k[:2, 2]])
        cameras.append(camera)
    ransac = pycolmap.RANSACOptions()
    ransac.max_error = options.threshold
    ransac.confidence = options.confidence
    ransac.random_seed = options.seed
    found = pycolmap.estimate_relative_pose(
        cameras[0], points0.astype(np.float64), cameras[1], points1.astype(np.float64), ransac
    )
    if found is None:
        return None
    pose = found["cam2_from_cam1"]
    return pose.rotation.matrix(), np.asarray(pose.translation, np.float64)


def pose_error(found: Pose | None, truth: PosedImagePair) -> tuple[float, float]:
    """Degrees of the rotation, and between the directions of translation up to sign; infinite without a pose."""
    if found is None:
        return float("inf"), float("inf")
    rotation, translation = found
    return float(rotation_angle(rotation @ truth.rotation.T)), _direction_angle(translation, truth.translation)


def _direction_angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The essential matrix does not fix the sign: at most 90 degrees."""
    angle = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
    return min(angle, 180 - angle)


def squared_epipolar_errors(
    points0: NDArray[np.floating], points1: NDArray[np.floating], pair: PosedImagePair
) -> NDArray[np.float64]:
    """``(M,)`` squared distances to the epipolar lines, summed over both images, in normalised coordinates."""
    planes = _normalized(points0, pair.intrinsics0), _normalized(points1, pair.intrinsics1)
    error0, error1 = epipolar_errors(essential_matrix(pair.rotation, pair.translation), *planes)
    return np.asarray(error0**2 + error1**2, np.float64)


def precision(points0: NDArray[np.floating], points1: NDArray[np.floating], pair: PosedImagePair) -> float:
    """Share of matches that lie on their epipolar lines; 0 without matches (as SuperGlue)."""
    if len(points0) == 0:
        return 0.0
    return float((squared_epipolar_errors(points0, points1, pair) < PRECISION_THRESHOLD).mean())


def pose_auc(errors: Sequence[float], thresholds: Sequence[float] = AUC_DEGREES) -> list[float]:
    """Area under the curve of recall over error, up to each threshold and relative to it, as SuperGlue computes it.

    The curve runs straight from (0, 0) through (i-th smallest error, i / n) and level from the last one below the
    threshold on.

    Args:
        errors: of n pairs, the larger one of rotation and translation; infinite where no pose was found.
        thresholds: in the unit of the errors.

    Returns:
        a number in [0, 1] for each threshold.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    recall = np.arange(len(ordered) + 1) / max(1, len(ordered))
    ordered = np.r_[0.0, ordered]
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(ordered, threshold))  # at least 1: the curve starts at 0
        x, y = np.r_[ordered[:last], threshold], np.r_[recall[:last], recall[last - 1]]
        areas.append(float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / threshold))
    return areas


def _normalized(points: NDArray[np.floating], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(M, 2)`` image-plane coordinates at distance 1; skew is taken into account."""
    rays = np.c_[points.astype(np.float64), np.ones(len(points))] @ np.linalg.inv(intrinsics).T
    return np.ascontiguousarray(rays[:, :2] / rays[:, 2:])
