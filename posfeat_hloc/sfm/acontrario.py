"""Pairs of images whose verified matches are no more than random matches give.

COLMAP takes two images for related when 15 matches agree with one epipolar geometry. With thousands of matches that is
no evidence: two photographs with nothing in common have 1500 mutual nearest neighbours among 8192 keypoints, and RANSAC
finds a geometry that 50 of them fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.geometry.acontrario import (
    ESSENTIAL,
    FUNDAMENTAL,
    exchanged_inlier_ratio,
    log_nfa,
    random_inlier_ratio,
)
from posfeat_hloc.geometry.two_view import squared_ray_errors, squared_sampson_errors
from posfeat_hloc.runtime.progress import Bar

Array = NDArray[np.float64]

_CLEAR = 0.3
"""Share of random matches that fit, above which none was seen; what is clear with it is not looked at."""


def drop_random_pairs(db: pycolmap.Database, max_error: float, progress: bool = False) -> None:
    """Empty the two-view geometries of a database that random matches explain, as COLMAP those of few inliers.

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
            if _is_random(db, image0, image1, keypoints, max_error):
                db.update_two_view_geometry(image0, image1, pycolmap.TwoViewGeometry())


def _is_random(
    db: pycolmap.Database, image0: int, image1: int, keypoints: Callable[[int], Array], max_error: float
) -> bool:
    geometry = db.read_two_view_geometry(image0, image1)
    matches, inliers = db.read_matches(image0, image1), geometry.inlier_matches
    if log_nfa(len(matches), len(inliers), _CLEAR) < 0:
        return False
    points0, points1 = keypoints(image0)[matches[:, 0]], keypoints(image1)[matches[:, 1]]
    cameras = [db.read_camera(db.read_image(image).camera_id) for image in (image0, image1)]
    if not all(keeps_lines_straight(camera) for camera in cameras):
        if geometry.E is None or pycolmap.TwoViewGeometryConfiguration(geometry.config).name != "CALIBRATED":
            return False
        rays0, rays1 = (rays_of(camera, points) for camera, points in zip(cameras, (points0, points1), strict=True))
        angle = float(np.mean([camera.cam_from_img_threshold(max_error) for camera in cameras]))
        share = exchanged_inlier_ratio(rays0, rays1, partial(squared_ray_errors, np.asarray(geometry.E)), angle)
        return log_nfa(len(matches), len(inliers), share, *ESSENTIAL) >= 0
    found = _fitted(cameras, geometry, keypoints(image0), keypoints(image1), max_error)
    if found is None:
        return False
    fundamental, estimation = found
    share = random_inlier_ratio(points0, points1, fundamental, max_error)
    return log_nfa(len(matches), len(inliers), share, *estimation) >= 0


def keeps_lines_straight(camera: pycolmap.Camera) -> bool:
    """Whether a calibration matrix describes the camera up to small distortion: no fisheye, no panorama."""
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
        return int(np.count_nonzero(squared_sampson_errors(candidate[0], points0, points1) <= max_error**2))

    return max(found, key=fits, default=None)


def _keypoints(db: pycolmap.Database, image: int) -> Array:
    return np.asarray(db.read_keypoints(image)[:, :2], np.float64)
