"""Fewer of the keypoints that were found: those that a mask allows, and the best of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.detection.spread import candidates, spread, strongest
from posfeat_hloc.features import Features


def allowed(features: Features, mask: NDArray[np.bool_] | None) -> Features:
    """The features whose keypoints, in the mask's pixels, lie where the mask ``(H, W)`` allows them."""
    if mask is None:
        return features
    last = np.array([mask.shape[1] - 1, mask.shape[0] - 1])
    x, y = np.clip(np.round(features.keypoints), 0, last).astype(int).T
    return features.chosen(mask[y, x])


def fewer(features: Features, count: int | None, spread_over: int = 0) -> Features:
    """``count`` of the features, in the order that they had: those with the highest scores, or, in an image of
    ``spread_over`` pixels, those that are strong and far from each other (:mod:`posfeat_hloc.detection.spread`); all
    for None.
    """
    if count is None or len(features) <= count:
        return features
    best = strongest(features.keypoints, features.scores, candidates(count, spread_over) if spread_over else count)
    if spread_over:
        best = best[spread(features.keypoints[best], features.scores[best], count)]
    return features.chosen(np.sort(best))
