"""Whether a pair of images that look turned against each other may both have been held upright.

Two people on opposite sides of a table see its top turned by 180 degrees, and neither camera is turned. A camera is
upright when the direction of gravity lies in the plane of its vertical axis and its line of sight. What two images
say about each other is therefore not the angle between them but the rotation between the cameras: where it takes an
upright camera to an upright one, nothing need be turned.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pycolmap
from numpy.typing import NDArray

Array = NDArray[np.float64]

PITCH = 60.0
"""Degrees above or below the horizon that a camera with an upright image looks at most; straight down, no image is
upright more than another."""

ROLL = 15.0
"""Degrees that a camera held upright is off."""

FOCAL_LENGTH = 1.2
"""Assumed, relative to the longer side of the image, as COLMAP does."""

_STEP = 2.5  # degrees between directions that are tried


def rotation_between(points0: Array, points1: Array, longest: tuple[float, float], max_error: float) -> Array | None:
    """Rotation from the first camera to the second, by the essential matrix or homography that most matches fit.

    Args:
        points0, points1: ``(M, 2)`` matched points in pixels from the centres of the pictures.
        longest: longer side of each image in pixels.
        max_error: of a match that fits, in pixels.

    Returns:
        ``(3, 3)``; None where no geometry fits.
    """
    cameras = [
        pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=round(side), height=round(side), params=[FOCAL_LENGTH * side, 0, 0]
        )
        for side in longest
    ]
    options = pycolmap.TwoViewGeometryOptions(compute_relative_pose=True)
    options.ransac.max_error = max_error
    options.ransac.random_seed = 0
    matches = np.repeat(np.arange(len(points0), dtype=np.uint32)[:, None], 2, axis=1)
    found = pycolmap.estimate_calibrated_two_view_geometry(cameras[0], points0, cameras[1], points1, matches, options)
    return None if found.cam2_from_cam1 is None else np.asarray(found.cam2_from_cam1.rotation.matrix())


def both_upright(rotation: Array) -> bool:
    """Whether some direction of gravity is that of an upright camera for both cameras.

    Args:
        rotation: ``(3, 3)`` from the first camera to the second; x to the right, y down, z ahead in upright pictures.
    """
    gravity = _directions() @ rotation.T
    pitch = np.degrees(np.arcsin(np.clip(gravity[:, 2], -1, 1)))
    roll = np.degrees(np.arctan2(gravity[:, 0], gravity[:, 1]))
    return bool(np.any((np.abs(pitch) <= PITCH) & (np.abs(roll) <= ROLL)))


@lru_cache(maxsize=1)
def _directions() -> Array:
    """``(N, 3)`` unit vectors: gravity as upright cameras may have it."""
    pitch = np.radians(np.arange(-PITCH, PITCH + _STEP, _STEP))[:, None]
    roll = np.radians(np.arange(-ROLL, ROLL + _STEP, _STEP))[None]
    x, y, z = np.broadcast_arrays(np.cos(pitch) * np.sin(roll), np.cos(pitch) * np.cos(roll), np.sin(pitch))
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)
