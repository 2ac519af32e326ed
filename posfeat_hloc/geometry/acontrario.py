"""A-contrario tests: how many inliers a geometry needs that random matches would not have (Moisan and Stival 2004)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.geometry.two_view import squared_sampson_errors

Array = NDArray[np.float64]

FUNDAMENTAL, ESSENTIAL = (7, 3), (5, 10)
"""Matches that RANSAC makes a matrix of, and matrices that it gets at most; random matches fit no homography."""

_TRIED = 10_000
"""Random matches that estimate how often one fits."""

POSE_SAMPLE = 3
"""Matches that determine a camera's pose, and fit it whatever they are."""

POSE_TRIALS = 10_000
"""COLMAP's limit of RANSAC trials."""

_FALSE_POSES = 0.01
"""Poses that random matches may have in all trials of RANSAC together."""


def log_nfa(matches: int, inliers: int, share: float, sample: int = 7, models: int = 3) -> float:
    """Logarithm of the number of false alarms: expected number of geometries with so many inliers in random matches.

    There are ``models * C(M, sample)`` geometries through matches of the pair, and each of the other matches fits one
    with probability ``share``: ``NFA = models * C(M, s) * P[Binomial(M - s, share) >= K - s]``. That is the test of
    Moisan and Stival (IJCV 2004) with one threshold, the tail of the binomial distribution itself, and a share that is
    measured instead of a ratio of areas. Below 0, the geometry is not explained by random matches.

    Args:
        matches, inliers: M and K.
        share: of random matches that fit a geometry.
        sample, models: see :data:`FUNDAMENTAL`.
    """
    if inliers <= sample:
        return math.inf
    return math.log(models) + _log_binomial(matches, sample) + _log_tail(matches - sample, inliers - sample, share)


def random_inlier_ratio(points0: Array, points1: Array, fundamental: Array, max_error: float) -> float:
    """Share of the matches that fit a geometry after they were exchanged at random.

    Args:
        points0, points1: ``(M, 2)`` matched keypoints.
        fundamental: ``(3, 3)``, of pixels.
        max_error: Sampson error of a match that fits, in pixels.
    """
    return exchanged_inlier_ratio(points0, points1, partial(squared_sampson_errors, fundamental), max_error)


def exchanged_inlier_ratio(
    first: Array, second: Array, squared_errors: Callable[[Array, Array], Array], max_error: float
) -> float:
    """Share of random matches between ``(M, D)`` and ``(M, D)`` with errors of ``max_error`` at most."""
    if len(first) == 0:
        return 1.0
    rng = np.random.default_rng(len(first))
    row0, row1 = rng.integers(len(first), size=(2, _TRIED))
    fits = np.count_nonzero((squared_errors(first[row0], second[row1]) <= max_error**2) & (row0 != row1))
    return (fits + 1) / (np.count_nonzero(row0 != row1) + 2)


def needed_pose_inliers(matches: int, max_error: float, size: tuple[int, int]) -> int:
    """How many inliers of an absolute pose random matches would not have.

    A random match lies within ``max_error`` of its projection with probability ``p = pi max_error^2 / (w h)``, so that
    beside the sample itself about a Poisson number of ``matches * p`` fit a pose at random. Asked for are as many that
    all trials of RANSAC together are expected to reach them in one query of a hundred.

    Args:
        matches: M.
        max_error: of an inlier, in pixels.
        size: (width, height) of the image.
    """
    mean = matches * min(1.0, math.pi * max_error**2 / (size[0] * size[1]))
    if mean == 0:
        return POSE_SAMPLE + 1
    count = math.floor(mean) + 1
    while count - mean - count * math.log(count / mean) > math.log(_FALSE_POSES / POSE_TRIALS):  # Chernoff's bound
        count += 1
    return POSE_SAMPLE + count


def _log_binomial(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _log_tail(total: int, least: int, share: float) -> float:
    """Logarithm of P[Binomial(total, share) >= least]."""
    counts = np.arange(least, total + 1, dtype=np.float64)
    odds = math.log(share) - math.log1p(-share)
    first = _log_binomial(total, least) + least * math.log(share) + (total - least) * math.log1p(-share)
    ratios = np.log((total - counts[:-1]) / (counts[:-1] + 1)) + odds
    return first + float(np.logaddexp.reduce(np.concatenate([[0.0], np.cumsum(ratios)])))
