"""Which of the keypoints that were found are kept: those that a mask allows, where the image has contrast, and strong
ones spread over the image.

The strongest keypoints crowd where texture is strong, and geometry is fixed better by distant ones. Adaptive
non-maximal suppression (Brown, Szeliski and Winder 2005; Bailo et al. 2018) keeps those that no stronger keypoint has
within a radius, with the largest radius that still leaves as many as are wanted.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.features import Features

VISIBLE = 0.002
"""Half a grey level of 255: any difference between two 8-bit pixels that is not smooth shading passes."""

ABOVE_NOISE = 0.02
"""5 grey levels of 255. Noise of a deviation of 1 level in a grey image measures 2.1 on the median of all places and
4.1 at the highest of 640 x 480; in an image of three independent channels 1.2 and 2.5."""

REACH = 4
"""Pixels around a keypoint within which contrast counts: the least that holds the middle of a blob of a coarse peak."""

CELL = 2
"""Side in pixels of the cells of :func:`contrast`."""


def textured(images: Tensor, least: float, reach: int = REACH) -> Tensor:
    """Pixels with at least this contrast within ``reach`` pixels on each side.

    Args:
        images: ``(B, 1 or 3, H, W)`` in [0, 1].
        least: see :func:`contrast`.

    Returns:
        ``(B, H, W)`` bool.
    """
    height, width = images.shape[-2:]
    enough = contrast(images, reach) >= least
    return enough.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[:, :height, :width]


def contrast(images: Tensor, reach: int = REACH) -> Tensor:
    """The strongest edge, line or blob within ``reach`` pixels of each cell of 2 x 2 pixels, by its contrast.

    The Frobenius norm of the Hessian of the image, averaged over the cells and smoothed by (1 2 1) / 4, times four: a
    straight step of contrast c measures c, a blob of 1.5 to 2 px (sigma) and contrast c 1.6 c.

    Args:
        images: ``(B, 1 or 3, H, W)`` in [0, 1].
        reach: pixels, even.

    Returns:
        ``(B, ceil(H / 2), ceil(W / 2))`` float32.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    height, width = grey.shape[-2:]
    grey = F.avg_pool2d(F.pad(grey, (0, -width % CELL, 0, -height % CELL), mode="replicate"), CELL)
    x = F.pad(grey, (2, 2, 2, 2), mode="replicate")
    x = (x[..., :-2] + x[..., 2:]).add_(x[..., 1:-1], alpha=2).mul_(0.25)
    x = (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2).mul_(0.25)
    centre = x[..., 1:-1, 1:-1]
    xx = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] - 2 * centre
    yy = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] - 2 * centre
    xy = (x[..., 2:, 2:] + x[..., :-2, :-2] - x[..., 2:, :-2] - x[..., :-2, 2:]) / 4
    norm = xx.square_().add_(yy.square_()).addcmul_(xy, xy, value=2).sqrt_()
    cells = reach // CELL
    for kernel in ((1, 2 * cells + 1), (2 * cells + 1, 1)):
        norm = F.max_pool2d(norm, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    return norm[:, 0] * 4


Indices = NDArray[np.intp]
Floats = NDArray[np.float32]

POOL = 3
"""Keypoints take part for each one that is wanted, the strongest: distance is no merit of the very weakest."""


AREA = 160
"""Pixels for each keypoint that takes part, at least: an image has a peak for each 25 or so, and where many are asked
for in a small image the weak ones among them match less often than spreading helps."""


def candidates(count: int, pixels: int) -> int:
    """Number of the strongest keypoints to choose ``count`` from, in an image of so many pixels."""
    return max(count, min(POOL * count, pixels // AREA))


def strongest(scores: Floats, count: int) -> Indices:
    """Indices of the ``count`` highest scores, highest first; of equal ones the first."""
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
    pool = strongest(scores, POOL * count)
    if len(pool) <= count:
        return pool
    radii = suppression_radii(keypoints[pool], scores[pool], count)
    return pool[np.sort(np.argsort(-radii, kind="stable")[:count])]


def spread_best(keypoints: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Keypoints ``(N, 2)`` and scores ``(N,)`` on any device, :func:`spread` where there are more than ``count``."""
    if len(values) <= count:
        return keypoints, values
    kept = torch.from_numpy(spread(keypoints.cpu().numpy(), values.cpu().numpy(), count)).to(values.device)
    return keypoints[kept], values[kept]


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


def allowed(features: Features, mask: NDArray[np.bool_] | None) -> Features:
    """The features whose keypoints, in pixels of the mask, are allowed by the mask ``(H, W)``."""
    if mask is None:
        return features
    last = np.array([mask.shape[1] - 1, mask.shape[0] - 1])
    x, y = np.clip(np.round(features.keypoints), 0, last).astype(int).T
    return features.chosen(mask[y, x])


def fewer(features: Features, count: int | None, spread_over: int = 0) -> Features:
    """``count`` of the features, in the order that they had: those with the highest scores, or, in an image of
    ``spread_over`` pixels, those that are strong and far from each other (:mod:`posfeat_hloc.detection.selection`); all
    for None.
    """
    if count is None or len(features) <= count:
        return features
    best = strongest(features.scores, candidates(count, spread_over) if spread_over else count)
    if spread_over:
        best = best[spread(features.keypoints[best], features.scores[best], count)]
    return features.chosen(np.sort(best))
