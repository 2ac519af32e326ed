"""Image matching under a known homography: mean matching accuracy (MMA)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(1, 11)
"""Pixels, as in D2-Net, D2D and PoSFeat."""


def project(points: NDArray[np.floating], homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, 2)`` points through a 3x3 homography; not finite where it sends them to infinity."""
    mapped = np.c_[points.astype(np.float64), np.ones(len(points))] @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)


def match_errors(
    keypoints0: NDArray[np.floating],
    keypoints1: NDArray[np.floating],
    pairs: NDArray[np.int64],
    homography: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance in image 1 between matched keypoints and the forward projection of their partners.

    Args:
        keypoints0, keypoints1: ``(N0, 2)`` and ``(N1, 2)`` (x, y) pixels.
        pairs: ``(M, 2)`` indices of matches.
        homography: 3x3, image 0 to image 1.

    Returns:
        ``(M,)`` pixels; not finite where the homography sends a point to infinity, which no threshold reaches.
    """
    distances = np.linalg.norm(project(keypoints0[pairs[:, 0]], homography) - keypoints1[pairs[:, 1]], axis=1)
    return np.asarray(distances, np.float64)


def matching_accuracy(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """MMA of one pair at 1..10 px: the share of matches within each threshold; zero without matches."""
    if len(errors) == 0:
        return np.zeros(len(THRESHOLDS))
    return np.asarray((errors[None] <= THRESHOLDS[:, None]).mean(axis=1), np.float64)


def mma_score(curve: NDArray[np.float64]) -> float:
    """MMAscore: the mean of an MMA curve at 1..10 px, weighted by 2 - 0.1 threshold (PoSFeat eq. 12)."""
    weights = 2 - 0.1 * THRESHOLDS
    return float((weights * curve).sum() / weights.sum())
