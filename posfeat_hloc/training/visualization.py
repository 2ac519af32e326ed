"""Pictures of a training run: score maps, keypoints, and matches colored by their epipolar distance."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.evaluation import drawing
from posfeat_hloc.images.resampling import Photograph
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.validation import Matched

WORST = 8.0
"""Epipolar distance in pixels that is drawn in full red; zero is green."""


def draw_matches(pair: PosedPair, matched: Matched, most: int = 200) -> Photograph:
    """Both images side by side, a line for each of up to ``most`` matches: green near its epipolar line, else red."""
    kept = slice(None, None, max(1, -(-len(matched.points0) // most)))
    colors = drawing.error_colors(matched.epipolar[kept], WORST)
    return drawing.draw_matches(pair.image0, pair.image1, matched.points0[kept], matched.points1[kept], colors)


def draw_scores(pair: PosedPair, scores: NDArray[np.float32], matched: Matched) -> Photograph:
    """Score maps of both images side by side (bright is high) with the matched keypoints as rings.

    Args:
        scores: ``(2, H, W)``.
    """
    drawn = []
    for heat, points in zip(scores, (matched.points0, matched.points1), strict=True):
        low, high = np.percentile(heat, [1, 99.5])
        picture = drawing.heat_map((heat - low) / max(high - low, 1e-6))
        for x, y in np.round(points).astype(int).tolist():
            cv2.circle(picture, (x, y), 3, (255, 255, 255), 1, cv2.LINE_AA)
        drawn.append(picture)
    return np.concatenate(drawn, axis=1)
