"""Two-view geometry of matched points: essential and fundamental matrices, and the errors of matches to them.

For NumPy arrays of matches; :mod:`posfeat_hloc.geometry.epipolar` has the batched lines that losses need.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError

Array = NDArray[np.float64]


def essential_matrix(rotation: Array, translation: Array) -> Array:
    """E = [t]x R with t of unit length, so that ``x1^T E x0 = 0``; zeros where the cameras are at the same place.

    Args:
        rotation, translation: ``(3, 3)`` and ``(3,)``, ``x1 = R x0 + t``.
    """
    x, y, z = translation / max(float(np.linalg.norm(translation)), np.finfo(np.float64).tiny)
    return np.asarray(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation, np.float64)


def fundamental_matrix(K0: Array, K1: Array, R: Array, t: Array) -> Array:
    """The ``(3, 3)`` matrix with ``x1^T F x0 = 0`` for homogeneous pixels, of Frobenius norm 1.

    Args:
        K0, K1: ``(3, 3)`` intrinsics in pixels.
        R, t: ``(3, 3)`` and ``(3,)``, ``x1 = R x0 + t``.

    Raises:
        ConfigurationError: t is zero; cameras at one place have no epipolar geometry.
    """
    if not np.linalg.norm(t) > 0:
        raise ConfigurationError("a pair of cameras without baseline has no epipolar geometry; leave it out")
    matrix = np.linalg.inv(K1).T @ essential_matrix(R, t) @ np.linalg.inv(K0)
    return np.asarray(matrix / np.linalg.norm(matrix), np.float64)


def epipolar_errors(matrix: Array, points0: Array, points1: Array) -> tuple[Array, Array]:
    """Distances of matched points to their epipolar lines.

    Args:
        matrix: ``(3, 3)`` essential or fundamental matrix, of any scale.
        points0, points1: ``(M, 2)`` on the planes at unit distance, or pixels.

    Returns:
        ``(M,)`` distances in image 0 and in image 1, in the units of the points; NaN where a point has no line: at the
        epipole, between cameras at the same place, or where a distorted point cannot be undistorted.
    """
    homogeneous0 = np.pad(points0, ((0, 0), (0, 1)), constant_values=1)
    homogeneous1 = np.pad(points1, ((0, 0), (0, 1)), constant_values=1)
    lines1, lines0 = homogeneous0 @ matrix.T, homogeneous1 @ matrix
    return _distances(np.abs((homogeneous1 * lines1).sum(axis=1)), lines0[:, :2], lines1[:, :2])


def squared_sampson_errors(matrix: Array, points0: Array, points1: Array) -> Array:
    """``(M,)`` squared Sampson errors of ``(M, 2)`` matches; NaN where both points have no line."""
    return _joined(*epipolar_errors(matrix, points0, points1))


def squared_ray_errors(essential: Array, rays0: Array, rays1: Array) -> Array:
    """``(M,)`` squared Sampson errors in radians of matched unit vectors ``(M, 3)``, by angles to epipolar planes."""
    planes1, planes0 = rays0 @ essential.T, rays1 @ essential
    return _joined(*_distances(np.abs((rays1 * planes1).sum(axis=1)), planes0, planes1))


def _distances(residuals: Array, normals0: Array, normals1: Array) -> tuple[Array, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return residuals / np.linalg.norm(normals0, axis=1), residuals / np.linalg.norm(normals1, axis=1)


def _joined(error0: Array, error1: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (error0**-2 + error1**-2))
