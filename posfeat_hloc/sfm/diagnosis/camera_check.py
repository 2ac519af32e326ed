"""Whether the cameras of a model can be right: within what lenses have, and determined by the photographs.

Bundle adjustment always returns a focal length. Photographs that say little of it (taken while moving straight ahead,
of one plane, or of few points) leave it where it happens to end; its covariance tells that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import Option

FOCAL_RANGE = (0.23, 30.0)
"""Focal lengths of lenses as a part of the longer side: 131 degrees across it for lenses that keep lines straight, and
a telephoto lens of 1000 mm."""
UNDETERMINED = 0.05
"""Standard deviation of a focal length as a part of it, above which it is said not to be determined."""
FOLD = 0.7
"""Part of the way to the corner of the image that distortion must not fold; refined ones often do beyond."""
MOST_IMAGES = 200
"""Larger models are not asked for covariances, which take memory and time with the square and cube of their number."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CameraDoubt:
    """A problem of one camera.

    Attributes:
        images: names of its images.
        finding: what is wrong, with the numbers.
        determined: whether the photographs say so; otherwise they say too little.
    """

    images: tuple[str, ...]
    finding: str
    determined: bool

    def __str__(self) -> str:
        return f"{self.finding} ({self.images[0]}{f' and {len(self.images) - 1} more' if len(self.images) > 1 else ''})"


GIVE = "{single} where one camera took all, or the focal length by {params}"
WRONG, UNKNOWN = (
    f"the model is wrong or bent; try {GIVE}",
    (f"take photographs from the sides, too, instead of moving straight ahead; or give {GIVE}"),
)
"""What helps against cameras that no lens has, and against those that are not determined."""


def told(doubts: Sequence[CameraDoubt], cameras: int) -> list[str]:
    """A sentence for each kind of doubt, with the first example and what helps."""
    sentences = []
    for determined, cure in ((True, WRONG), (False, UNKNOWN)):
        kind = [doubt for doubt in doubts if doubt.determined == determined]
        if kind:
            many = f"{len(kind)} of {cameras} cameras, such as: " if len(kind) > 1 else ""
            named = cure.format(single=Option("camera", "single"), params=Option("camera_params"))
            sentences.append(f"{many}{kind[0]}; {named}")
    return sentences


def doubtful_cameras(model: pycolmap.Reconstruction, refined: bool = True) -> list[CameraDoubt]:
    """Cameras that no lens has, or that the photographs do not determine; at most one finding each.

    Args:
        model: finished.
        refined: whether its intrinsics were estimated; those that were given are determined.
    """
    images: dict[int, list[str]] = {}
    for image in model.images.values():
        if image.has_pose:
            images.setdefault(image.camera_id, []).append(image.name)
    spread = focal_deviations(model, sorted(images)) if refined else {}
    doubts = []
    for camera_id, names in sorted(images.items()):
        camera = model.cameras[camera_id]
        finding, deviation = impossible(camera), spread.get(camera_id, 0.0)
        if finding is not None:
            doubts.append(CameraDoubt(tuple(sorted(names)), finding, True))
        elif deviation > UNDETERMINED:
            finding = (
                f"the focal length of {camera.mean_focal_length():.0f} px is known to {100 * deviation:.0f} % only"
            )
            doubts.append(CameraDoubt(tuple(sorted(names)), finding, False))
    return doubts


def impossible(camera: pycolmap.Camera) -> str | None:
    """What of a camera no lens has; None for one that can be."""
    if not len(camera.focal_length_idxs()):
        return None
    part = camera.mean_focal_length() / max(camera.width, camera.height)
    if not FOCAL_RANGE[0] <= part <= FOCAL_RANGE[1]:
        return (
            f"a focal length of {camera.mean_focal_length():.0f} px, {part:.2g} times the longer side, is beyond lenses"
        )
    focals = [float(camera.params[i]) for i in camera.focal_length_idxs()]
    if max(focals) > 1.5 * min(focals):
        return f"focal lengths of {focals[0]:.0f} and {focals[1]:.0f} px along the sides are those of no lens"
    if (angle := _folds_at(camera)) is not None:
        return (
            f"its distortion folds the image {angle:.0f} degrees off the axis (parameters "
            f"{', '.join(f'{value:.3g}' for value in camera.params)})"
        )
    return None


def _folds_at(camera: pycolmap.Camera) -> float | None:
    """The angle from the axis at which the image turns back on the way to its corner; None where it never does."""
    centre = np.array([camera.principal_point_x, camera.principal_point_y])
    corner = math.hypot(*np.maximum(centre, [camera.width, camera.height] - centre))
    angles = np.radians(np.arange(1.0, 89.0 if "FISHEYE" not in camera.model_name else 120.0))
    rays = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)], axis=1)
    pixels = np.asarray(camera.img_from_cam(rays), np.float64).reshape(-1, 2)
    radii = np.abs(pixels[:, 0] - centre[0])
    inside = np.flatnonzero(np.isfinite(radii))
    reached = next((i for i in inside if radii[i] >= FOLD * corner), inside[-1] if len(inside) else 0)
    falling = np.flatnonzero(np.diff(radii[: reached + 1]) < 0)
    return float(np.degrees(angles[falling[0]])) if len(falling) else None


def focal_deviations(model: pycolmap.Reconstruction, camera_ids: list[int]) -> dict[int, float]:
    """Standard deviation of each camera's focal length as a part of it, by the covariance of bundle adjustment.

    That of the observations is taken from the reprojection errors. Cameras that were not refined, and models that are
    too large or for which the covariance cannot be computed, are left out.
    """
    if model.num_reg_images() > MOST_IMAGES or model.num_reg_images() < 2 or not model.num_points3D():
        return {}
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    problem = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        problem.add_image(image_id)
    problem.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    wanted = pycolmap.BACovarianceOptions()
    try:
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, problem, model)
        covariance = pycolmap.estimate_ba_covariance(wanted, model, adjuster)
    except (RuntimeError, ValueError, AttributeError):  # degenerate, or a pycolmap without covariances
        return {}
    if covariance is None:
        return {}
    freedom = 2 * model.compute_num_observations() - 3 * model.num_points3D() - 6 * model.num_reg_images()
    errors = 2 * model.compute_num_observations() * model.compute_mean_reprojection_error() ** 2
    noise = math.sqrt(errors / max(freedom, 1))
    found = {}
    for camera_id in camera_ids:
        camera = model.cameras[camera_id]
        block = covariance.get_other_params_cov(camera.params)
        rows = list(camera.focal_length_idxs())
        if block is None or not rows:
            continue
        variance = float(np.mean(np.diagonal(np.asarray(block))[: len(rows)]))  # focal lengths come first
        if math.isfinite(variance):
            found[camera_id] = noise * math.sqrt(max(variance, 0.0)) / camera.mean_focal_length()
    return found
