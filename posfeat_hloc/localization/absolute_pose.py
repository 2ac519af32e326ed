"""The pose of a camera from matches of its pixels to 3D points."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass

import numpy as np
import pycolmap
from numpy.typing import NDArray

_TRIALS = 10_000  # COLMAP's limit of RANSAC trials
_SAMPLE = 3  # matches that determine a pose, and fit it whatever they are
_PLAUSIBLE = (0.1, 10.0, 1.0)  # focal length by image size, from and to, and distortion, as in COLMAP's mapper
_FALSE_ALARMS = 0.01  # poses that matches at random may give in all trials together


@dataclass(frozen=True)
class PoseEstimate:
    """A pose, what supports it, and the camera it holds for.

    Attributes:
        cam_from_world: of the query.
        inliers: ``(M,)`` bool, one for each match.
        focal_length: mean of both axes in pixels, as given or as estimated.
    """

    cam_from_world: pycolmap.Rigid3d
    inliers: NDArray[np.bool_]
    focal_length: float


def estimate_pose(
    points2d: NDArray[np.float64],
    points3d: NDArray[np.float64],
    camera: pycolmap.Camera,
    calibrated: bool = True,
    max_error: float = 12.0,
    seed: int = 0,
) -> PoseEstimate | None:
    """Estimate an absolute pose with LO-RANSAC over P3P and refine it on its inliers.

    Args:
        points2d: ``(M, 2)`` pixels in COLMAP's convention.
        points3d: ``(M, 3)`` in the world.
        camera: not changed.
        calibrated: see :class:`posfeat_hloc.localization.queries.Query`.
        max_error: of an inlier, in pixels.
        seed: of the RANSAC; with it the result does not depend on threads or on other estimates.

    Returns:
        None where no pose was found. A pose may still be one that chance gives; see :func:`needed_inliers`.
    """
    if len(points2d) <= _SAMPLE:
        return None
    camera = copy(camera)  # the library writes the focal length that it finds into its argument
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = max_error
    estimation.ransac.max_num_trials = _TRIALS
    estimation.ransac.random_seed = seed
    estimation.estimate_focal_length = not calibrated and not camera.has_prior_focal_length
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length = not calibrated
    found = pycolmap.estimate_and_refine_absolute_pose(points2d, points3d, camera, estimation, refinement)
    if found is None:
        return None
    pose = found["cam_from_world"]
    if not np.isfinite(pose.matrix()).all() or (not calibrated and camera.has_bogus_params(*_PLAUSIBLE)):
        return None
    return PoseEstimate(pose, np.asarray(found["inlier_mask"], bool), float(camera.mean_focal_length()))


def needed_inliers(matches: int, max_error: float, size: tuple[int, int]) -> int:
    """How many inliers matches at random would not give, an a-contrario test (Moisan and Stival 2004).

    A random match lies within ``max_error`` of its projection with probability ``p = pi max_error^2 / (w h)``, so that
    beside the sample itself about a Poisson number of ``matches * p`` fit a pose by chance. Asked for are as many that
    all trials of RANSAC together are expected to reach them in one query of a hundred.

    Args:
        matches: M.
        max_error: of an inlier, in pixels.
        size: (width, height) of the image.
    """
    mean = matches * min(1.0, math.pi * max_error**2 / (size[0] * size[1]))
    if mean == 0:
        return _SAMPLE + 1
    count = math.floor(mean) + 1
    while count - mean - count * math.log(count / mean) > math.log(_FALSE_ALARMS / _TRIALS):  # Chernoff's bound
        count += 1
    return _SAMPLE + count
