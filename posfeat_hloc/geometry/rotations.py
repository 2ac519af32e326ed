"""Rotations as matrices: their angles, relative poses, and cameras that look at a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rotation_angle(R: Array) -> Array:
    """Angles of rotations ``(..., 3, 3)`` in degrees, ``(...)``; by the sine as well, so accurate near 0 and 180."""
    sine = np.linalg.norm(R - np.swapaxes(R, -1, -2), axis=(-2, -1)) / np.sqrt(8)
    cosine = (np.trace(R, axis1=-2, axis2=-1) - 1) / 2
    return np.asarray(np.degrees(np.arctan2(sine, cosine)), np.float64)


def relative_pose(R0: Array, t0: Array, R1: Array, t1: Array) -> tuple[Array, Array]:
    """From camera 0 to camera 1, of world-to-camera poses ``(..., 3, 3)`` and ``(..., 3)``."""
    R = R1 @ np.swapaxes(R0, -1, -2)
    return R, t1 - (R @ t0[..., None])[..., 0]


def look_at(centre: Array, target: Array, down: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> Array:
    """World-to-camera rotation ``(3, 3)`` of a camera at ``centre`` that looks at ``target``, ``(3,)`` each.

    Args:
        down: direction in the world that is down in the image, as far as the view allows; not along the view.
    """
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def about_axis(angle: float) -> Array:
    """Rotation ``(3, 3)`` about the optical axis; positive radians turn what the camera sees clockwise."""
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def rotation_between(start: Array, end: Array) -> Array:
    """The smallest rotation ``(3, 3)`` that brings one unit vector ``(3,)`` to another (Rodrigues)."""
    cosine, axis = float(start @ end), np.cross(start, end)
    if cosine < -1 + 1e-12:  # half a turn, about any axis across
        across = np.eye(3)[np.argmin(np.abs(start))]
        axis = np.cross(start, across)
        axis /= np.linalg.norm(axis)
        return np.asarray(2 * np.outer(axis, axis) - np.eye(3))
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))
