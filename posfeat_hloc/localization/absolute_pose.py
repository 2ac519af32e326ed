"""The pose of a camera from matches of its pixels to 3D points."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.geometry.acontrario import POSE_SAMPLE, POSE_TRIALS, needed_pose_inliers

Array = NDArray[np.float64]

_PLAUSIBLE = (0.1, 10.0, 1.0)  # focal length by image size, from and to, and distortion, as in COLMAP's mapper


@dataclass(frozen=True)
class PoseEstimate:
    """A pose, what supports it, and the camera it holds for.

    Attributes:
        cam_from_world: of the query.
        inliers: ``(M,)`` bool, one for each match.
        camera: with the focal length as given or as estimated.
    """

    cam_from_world: pycolmap.Rigid3d
    inliers: NDArray[np.bool_]
    camera: pycolmap.Camera


def estimate_pose(
    points2d: Array,
    points3d: Array,
    camera: pycolmap.Camera,
    calibrated: bool = True,
    max_error: float = 12.0,
    seed: int = 0,
    likely: NDArray[np.bool_] | None = None,
) -> PoseEstimate | None:
    """Estimate an absolute pose with LO-RANSAC over P3P and refine it on its inliers.

    With ``likely``, RANSAC samples from and counts these matches only, which takes far fewer trials where many of the
    others are wrong; the pose is then refined on all matches that it explains. All matches are sampled from where that
    explains no more than random matches would.

    Args:
        points2d: ``(M, 2)`` pixels in COLMAP's convention.
        points3d: ``(M, 3)`` in the world.
        camera: not changed.
        calibrated: see :class:`posfeat_hloc.localization.queries.Query`.
        max_error: of an inlier, in pixels.
        seed: of the RANSAC; with it the result does not depend on threads or on other estimates.
        likely: ``(M,)`` matches that are right more often than others.

    Returns:
        None where no pose was found. A pose may still be one that random matches give; see
        :func:`posfeat_hloc.geometry.acontrario.needed_pose_inliers`.
    """
    how = _Method(calibrated, max_error, seed)
    if likely is not None and not likely.all():
        first = how.sample(points2d[likely], points3d[likely], camera)
        found = None if first is None else how.extend(first, points2d, points3d)
        if found is not None:
            return found
    return how.sample(points2d, points3d, camera)


@dataclass(frozen=True)
class _Method:
    """See :func:`estimate_pose`."""

    calibrated: bool
    max_error: float
    seed: int

    def sample(self, points2d: Array, points3d: Array, camera: pycolmap.Camera) -> PoseEstimate | None:
        """The pose that most matches fit, refined on them."""
        if len(points2d) <= POSE_SAMPLE:
            return None
        camera = copy(camera)  # the library writes the focal length that it finds into its argument
        options = pycolmap.AbsolutePoseEstimationOptions()
        options.ransac.max_error = self.max_error
        options.ransac.max_num_trials = POSE_TRIALS
        options.ransac.random_seed = self.seed
        options.estimate_focal_length = not self.calibrated and not camera.has_prior_focal_length
        found = pycolmap.estimate_and_refine_absolute_pose(points2d, points3d, camera, options, self._refinement())
        if found is None or not self._is_plausible(found["cam_from_world"], camera):
            return None
        return PoseEstimate(found["cam_from_world"], np.asarray(found["inlier_mask"], bool), camera)

    def extend(self, first: PoseEstimate, points2d: Array, points3d: Array) -> PoseEstimate | None:
        """A pose refined on more matches than it was found from; None where random matches would fit as well."""
        camera = copy(first.camera)
        near = self._inliers(points2d, points3d, first.cam_from_world, camera)
        if near.sum() < needed_pose_inliers(len(near), self.max_error, (camera.width, camera.height)):
            return None
        found = pycolmap.refine_absolute_pose(
            first.cam_from_world, points2d, points3d, near, camera, self._refinement()
        )
        if found is None or not self._is_plausible(found["cam_from_world"], camera):
            return None
        pose = found["cam_from_world"]
        return PoseEstimate(pose, self._inliers(points2d, points3d, pose, camera), camera)

    def _inliers(
        self, points2d: Array, points3d: Array, pose: pycolmap.Rigid3d, camera: pycolmap.Camera
    ) -> NDArray[np.bool_]:
        errors = np.linalg.norm(camera.img_from_cam(pose * points3d) - points2d, axis=1)
        return np.asarray(errors <= self.max_error, bool)  # NaN behind the camera

    def _refinement(self) -> pycolmap.AbsolutePoseRefinementOptions:
        options = pycolmap.AbsolutePoseRefinementOptions()
        options.refine_focal_length = not self.calibrated
        return options

    def _is_plausible(self, pose: pycolmap.Rigid3d, camera: pycolmap.Camera) -> bool:
        known = self.calibrated or not camera.has_bogus_params(*_PLAUSIBLE)
        return known and bool(np.isfinite(pose.matrix()).all())
