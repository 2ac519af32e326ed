"""Which keypoints to keep when there are more than wanted: strong ones, spread over the image.

The strongest keypoints crowd where texture is strong, and geometry is fixed better by distant ones. Adaptive
non-maximal suppression (Brown, Szeliski and Winder 2005; Bailo et al. 2018) keeps those that no stronger keypoint has
within a radius, with the largest radius that still leaves as many as are wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Floats = NDArray[np.float32]

POOL = 3
"""Keypoints take part for each one that is wanted, the strongest: distance is no merit of the very weakest."""


AREA = 160
"""Pixels for each keypoint that takes part, at least: an image has a peak for each 25 or so, and where many are asked
for in a small image the weak ones among them match less often than spreading helps."""


def candidates(count: int, pixels: int) -> int:
    """How many of the strongest keypoints take part when ``count`` are wanted in an image of so many pixels."""
    return max(count, min(POOL * count, pixels // AREA))


def strongest(keypoints: Floats, scores: Floats, count: int) -> Indices:
    """Indices of the ``count`` highest scores, highest first; of equal ones the first. Keypoints do not matter."""
    return np.argsort(-scores, kind="stable")[:count]


def spread(keypoints: Floats, scores: Floats, count: int) -> Indices:
    """The ``count`` keypoints with the largest suppression radii among the strongest ``POOL * count``.

    Args:
        keypoints: ``(N, 2)`` pixels (x, y).
        scores: ``(N,)``.
        count: at most this many.

    Returns:
        ``(min(N, count),)`` indices, highest score first, of equal radii the highest scores.
    """
    pool = strongest(keypoints, scores, POOL * count)
    if len(pool) <= count:
        return pool
    radii = suppression_radii(keypoints[pool], scores[pool], count)
    return pool[np.sort(np.argsort(-radii, kind="stable")[:count])]


def suppression_radii(keypoints: Floats, scores: Floats, count: int) -> Floats:
    """Distance of each keypoint to the nearest stronger one.

    Neighbours are searched within a radius that is doubled until no more than ``count`` keypoints have none.

    Args:
        keypoints: ``(N, 2)``.
        scores: ``(N,)``.
        count: so many keypoints with the largest radii need not be ordered.

    Returns:
        ``(N,)`` pixels, infinite where no stronger keypoint was found.
    """
    points = keypoints - keypoints.min(axis=0)
    extent = points.max(axis=0)
    reach = max(1.0, float(np.sqrt(extent[0] * extent[1] / len(points))))
    radii = np.full(len(points), np.inf, np.float32)
    open_ = np.arange(len(points))
    while len(open_) > count:
        radii[open_] = _nearest_stronger(points, scores, open_, reach)
        open_ = open_[np.isinf(radii[open_])]
        if reach > extent.sum():  # keypoints with the highest score of all
            break
        reach *= 2
    return radii


def _nearest_stronger(points: Floats, scores: Floats, asked: Indices, reach: float) -> Floats:
    """Distance of each asked point to the nearest stronger one within ``reach``, infinite without one.

    Points are sorted into cells of side ``reach``, row by row; three runs of three cells hold all neighbours.
    """
    cells = (points * np.float32(1 / reach)).astype(np.int64)
    width = int(cells[:, 0].max()) + 3
    number = (cells[:, 1] + 1) * width + cells[:, 0] + 1
    order = np.argsort(number, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=int(number.max()) + width + 2))])
    middle = number[asked][:, None] + width * np.array([-1, 0, 1])
    starts = first[middle - 1].ravel()
    lengths = first[middle + 2].ravel() - starts
    ends = np.cumsum(lengths)
    others = order[np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)]
    queries = np.repeat(np.repeat(asked, 3), lengths)
    rivals = np.flatnonzero(scores[others] > scores[queries])
    queries, others = queries[rivals], others[rivals]
    x, y = np.ascontiguousarray(points.T)
    squared = (x[queries] - x[others]) ** 2 + (y[queries] - y[others]) ** 2
    result = np.full(len(points), np.inf, np.float32)
    if len(queries):
        runs = np.flatnonzero(np.diff(queries, prepend=-1))  # queries come sorted, as those asked are
        result[queries[runs]] = np.minimum.reduceat(squared, runs)
    nearest = np.sqrt(result[asked])
    return np.where(nearest <= reach, nearest, np.float32(np.inf))
