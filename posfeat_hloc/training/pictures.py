"""Pictures of a training run: score maps, keypoints, and matches coloured by their epipolar distance."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.training.posed_pairs import Photograph, PosedPair
from posfeat_hloc.training.validation import Matched

WORST = 8.0
"""Epipolar distance in pixels that is drawn in full red; zero is green."""


def draw_matches(pair: PosedPair, matched: Matched, most: int = 200) -> Photograph:
    """Both images side by side, a line for each of up to ``most`` matches: green near its epipolar line, else red."""
    canvas = np.ascontiguousarray(np.concatenate([pair.image0, pair.image1], axis=1))
    shift = np.array([pair.image0.shape[1], 0])
    step = max(1, -(-len(matched.points0) // most))
    for p0, p1, distance in zip(
        matched.points0[::step], matched.points1[::step], matched.epipolar[::step], strict=True
    ):
        colour = _green_to_red(float(distance) / WORST)
        ends = [tuple(int(v) for v in np.round(p)) for p in (p0, p1 + shift)]
        cv2.line(canvas, ends[0], ends[1], colour, 1, cv2.LINE_AA)
        for end in ends:
            cv2.circle(canvas, end, 2, colour, -1, cv2.LINE_AA)
    return canvas


def draw_scores(pair: PosedPair, scores: NDArray[np.float32], matched: Matched) -> Photograph:
    """Score maps of both images side by side (bright is high) with the matched keypoints as rings.

    Args:
        scores: ``(2, H, W)``.
    """
    drawn = []
    for heat, points in zip(scores, (matched.points0, matched.points1), strict=True):
        low, high = np.percentile(heat, [1, 99.5])
        grey = np.clip((heat - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
        picture = np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8).copy()
        for x, y in np.round(points).astype(int).tolist():
            cv2.circle(picture, (x, y), 3, (255, 255, 255), 1, cv2.LINE_AA)
        drawn.append(picture)
    return np.concatenate(drawn, axis=1)


def _green_to_red(part: float) -> tuple[int, int, int]:
    part = min(max(part, 0.0), 1.0)
    return int(255 * min(1.0, 2 * part)), int(255 * min(1.0, 2 - 2 * part)), 40
