"""Pairs of images whose verified matches are no more than chance gives.

COLMAP takes two images for related when 15 matches agree with one epipolar geometry. With thousands of matches that is
no evidence: two photographs with nothing in common have 1500 mutual nearest neighbours among 8192 keypoints, and RANSAC
finds a geometry that 50 of them fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.pose_verification import epipolar_errors

Array = NDArray[np.float64]

FUNDAMENTAL, ESSENTIAL = (7, 3), (5, 10)
"""Matches that RANSAC makes a matrix of, and matrices that it gets at most; chance never fits a homography."""

_CLEAR = 0.3
"""Share of random matches that fit, above which none was seen; what is clear with it is not looked at."""

_TRIED = 10_000
"""Random matches that estimate how often one fits."""


def log_chance(matches: int, inliers: int, share: float, sample: int = 7, models: int = 3) -> float:
    """Logarithm of how many geometries with so many inliers random matches would have, an a-contrario test.

    There are ``models * C(M, sample)`` geometries through matches of the pair, and each of the other matches fits one
    with probability ``share``: ``E = models * C(M, s) * P[Binomial(M - s, share) >= K - s]``. That is the test of
    Moisan and Stival (IJCV 2004) with one threshold, the tail of the binomial distribution itself, and a share that is
    measured instead of a ratio of areas. Below 0, chance is no explanation.

    Args:
        matches, inliers: M and K.
        share: of random matches that fit a geometry.
        sample, models: see :data:`FUNDAMENTAL`.
    """
    if inliers <= sample:
        return math.inf
    return math.log(models) + _log_binomial(matches, sample) + _log_tail(matches - sample, inliers - sample, share)


def share_by_chance(points0: Array, points1: Array, fundamental: Array, max_error: float) -> float:
    """How many of the matches fit a geometry after they were exchanged at random, as a share.

    Args:
        points0, points1: ``(M, 2)`` matched keypoints.
        fundamental: ``(3, 3)``, of pixels.
        max_error: Sampson error of a match that fits, in pixels.
    """
    return _share(points0, points1, lambda a, b: _squared_sampson(a, b, fundamental), max_error)


def _share(first: Array, second: Array, squared_errors: Callable[[Array, Array], Array], max_error: float) -> float:
    """How many of ``(M, D)`` and ``(M, D)`` drawn at random have errors below the largest, as a share."""
    if len(first) == 0:
        return 1.0
    rng = np.random.default_rng(len(first))
    row0, row1 = rng.integers(len(first), size=(2, _TRIED))
    fits = np.count_nonzero((squared_errors(first[row0], second[row1]) <= max_error**2) & (row0 != row1))
    return (fits + 1) / (np.count_nonzero(row0 != row1) + 2)


def drop_chance_pairs(db: pycolmap.Database, max_error: float, progress: bool = False) -> None:
    """Empty the two-view geometries of a database that chance explains, as COLMAP does with those of few inliers.

    Args:
        db: after verification.
        max_error: of an inlier in that verification, in pixels.
        progress: show a bar where it takes longer than a second.
    """
    keypoints: Callable[[int], Array] = lru_cache(maxsize=256)(partial(_keypoints, db))
    pair_ids, counts = db.read_two_view_geometry_num_inliers()
    with pycolmap.DatabaseTransaction(db):
        verified = [pair_id for pair_id, count in zip(pair_ids, counts, strict=True) if count > 0]
        for pair_id in Bar(verified, desc="judge", unit="pair", disable=not progress, leave=False, delay=1):
            image0, image1 = pycolmap.pair_id_to_image_pair(pair_id)
            if _is_chance(db, image0, image1, keypoints, max_error):
                db.update_two_view_geometry(image0, image1, pycolmap.TwoViewGeometry())


def _is_chance(
    db: pycolmap.Database, image0: int, image1: int, keypoints: Callable[[int], Array], max_error: float
) -> bool:
    geometry = db.read_two_view_geometry(image0, image1)
    matches, inliers = db.read_matches(image0, image1), geometry.inlier_matches
    if log_chance(len(matches), len(inliers), _CLEAR) < 0:
        return False
    points0, points1 = keypoints(image0)[matches[:, 0]], keypoints(image1)[matches[:, 1]]
    cameras = [db.read_camera(db.read_image(image).camera_id) for image in (image0, image1)]
    if not all(keeps_lines_straight(camera) for camera in cameras):
        if geometry.E is None or pycolmap.TwoViewGeometryConfiguration(geometry.config).name != "CALIBRATED":
            return False
        rays0, rays1 = (rays_of(camera, points) for camera, points in zip(cameras, (points0, points1), strict=True))
        angle = float(np.mean([camera.cam_from_img_threshold(max_error) for camera in cameras]))
        share = _share(rays0, rays1, lambda a, b: _squared_angles(a, b, np.asarray(geometry.E)), angle)
        return log_chance(len(matches), len(inliers), share, *ESSENTIAL) >= 0
    found = _fitted(cameras, geometry, keypoints(image0), keypoints(image1), max_error)
    if found is None:
        return False
    fundamental, estimation = found
    share = share_by_chance(points0, points1, fundamental, max_error)
    return log_chance(len(matches), len(inliers), share, *estimation) >= 0


def keeps_lines_straight(camera: pycolmap.Camera) -> bool:
    """Whether a calibration matrix says what the camera does, up to small distortion: no fisheye, no panorama."""
    return camera.model_name != "EQUIRECTANGULAR" and "FISHEYE" not in camera.model_name


def rays_of(camera: pycolmap.Camera, pixels: Array) -> Array:
    """``(N, 3)`` unit vectors from the camera through ``(N, 2)`` pixels; NaN where there is none."""
    if len(pixels) == 0:
        return np.zeros((0, 3))
    rays = np.asarray(camera.cam_ray_from_img(pixels), np.float64).reshape(-1, 3)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _fitted(
    cameras: list[pycolmap.Camera],
    geometry: pycolmap.TwoViewGeometry,
    keypoints0: Array,
    keypoints1: Array,
    max_error: float,
) -> tuple[Array, tuple[int, int]] | None:
    """The fundamental matrix that most inliers fit, and how RANSAC found it; None for homographies.

    With known focal lengths COLMAP estimates an essential and a fundamental matrix, and keeps the inliers of one.
    """
    config = pycolmap.TwoViewGeometryConfiguration(geometry.config).name
    found: list[tuple[Array, tuple[int, int]]] = []
    if config in ("CALIBRATED", "UNCALIBRATED") and geometry.F is not None:
        found.append((np.asarray(geometry.F), FUNDAMENTAL))
    if config == "CALIBRATED" and geometry.E is not None:
        inverse0, inverse1 = (np.linalg.inv(camera.calibration_matrix()) for camera in cameras)
        found.append((inverse1.T @ geometry.E @ inverse0, ESSENTIAL))
    inliers = geometry.inlier_matches
    points0, points1 = keypoints0[inliers[:, 0]], keypoints1[inliers[:, 1]]

    def fits(candidate: tuple[Array, tuple[int, int]]) -> int:
        return int(np.count_nonzero(_squared_sampson(points0, points1, candidate[0]) <= max_error**2))

    return max(found, key=fits, default=None)


def _keypoints(db: pycolmap.Database, image: int) -> Array:
    return np.asarray(db.read_keypoints(image)[:, :2], np.float64)


def _squared_sampson(points0: Array, points1: Array, fundamental: Array) -> Array:
    """Squared Sampson errors in pixels of ``(N, 2)`` matches; NaN where both points have no line."""
    error0, error1 = epipolar_errors(fundamental, points0, points1)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (error0**-2 + error1**-2))


def _squared_angles(rays0: Array, rays1: Array, essential: Array) -> Array:
    """Squared errors in radians of ``(N, 3)`` matched unit vectors, both angles to the epipolar planes together."""
    planes1, planes0 = rays0 @ essential.T, rays1 @ essential
    residuals = np.abs((rays1 * planes1).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        error0, error1 = (residuals / np.linalg.norm(planes, axis=1) for planes in (planes0, planes1))
        return np.asarray(1 / (error0**-2 + error1**-2))


def _log_binomial(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _log_tail(total: int, least: int, share: float) -> float:
    """Logarithm of P[Binomial(total, share) >= least]."""
    counts = np.arange(least, total + 1, dtype=np.float64)
    odds = math.log(share) - math.log1p(-share)
    first = _log_binomial(total, least) + least * math.log(share) + (total - least) * math.log1p(-share)
    ratios = np.log((total - counts[:-1]) / (counts[:-1] + 1)) + odds
    return first + float(np.logaddexp.reduce(np.concatenate([[0.0], np.cumsum(ratios)])))
