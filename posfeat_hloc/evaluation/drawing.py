"""Drawings of features: points and matches colored by their errors, maps of scores over photographs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""``(H, W, 3)`` RGB."""

RIGHT, WRONG = (60, 200, 60), (220, 60, 40)
"""Colors for what holds and for what does not."""

_BAR = 56  # width of a color bar with its numbers, in pixels


def error_colors(errors: NDArray[np.floating], worst: float) -> NDArray[np.int64]:
    """``(N, 3)`` RGB of ``(N,)`` errors: green at 0, yellow half way, red from ``worst`` on and where not finite."""
    part = np.clip(np.nan_to_num(np.asarray(errors, np.float64) / worst, nan=1.0, posinf=1.0), 0, 1)[:, None]
    red, green = 255 * np.minimum(1, 2 * part), 255 * np.minimum(1, 2 - 2 * part)
    return np.concatenate([red, green, np.full_like(red, 40)], axis=1).astype(np.int64)


def draw_points(picture: Picture, points: NDArray[np.floating], colors: NDArray[np.int64], radius: int = 2) -> Picture:
    """A copy of an image with a dot of its color ``(N, 3)`` at each of ``(N, 2)`` points."""
    canvas = picture.copy()
    for (x, y), color in zip(np.round(points).astype(int).tolist(), colors.tolist(), strict=True):
        cv2.circle(canvas, (x, y), radius, color, -1, cv2.LINE_AA)
    return canvas


def draw_matches(
    picture0: Picture,
    picture1: Picture,
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
    colors: NDArray[np.int64],
    lines: bool = True,
) -> Picture:
    """Both images side by side, a line and two dots for each match; later ones are drawn on top.

    Args:
        points0, points1: ``(M, 2)`` matched pixels.
        colors: ``(M, 3)`` RGB.
        lines: False draws the dots only.
    """
    canvas, shift = side_by_side([picture0, picture1]), np.array([picture0.shape[1], 0])
    for point0, point1, color in zip(points0, points1 + shift, colors.tolist(), strict=True):
        a, b = (tuple(np.round(point).astype(int).tolist()) for point in (point0, point1))
        if lines:
            cv2.line(canvas, a, b, color, 1, cv2.LINE_AA)
        for end in (a, b):
            cv2.circle(canvas, end, 2, color, -1, cv2.LINE_AA)
    return canvas


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Images in a row, padded with white to the same height."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, axis=1)


def stacked(rows: Sequence[Picture]) -> Picture:
    """Images in a column, padded with white to the same width."""
    width = max(picture.shape[1] for picture in rows)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in rows]
    return np.concatenate(padded)


def with_error_bar(picture: Picture, worst: float) -> Picture:
    """An image with the colors of :func:`error_colors` and their numbers at its right."""
    height = picture.shape[0]
    bar = np.full((height, _BAR, 3), 255, np.uint8)
    ramp = error_colors(np.linspace(worst, 0, max(2, height - 16)), worst).astype(np.uint8)
    bar[8 : 8 + len(ramp), 6:18] = ramp[:, None]
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = 8 + round((1 - part) * (height - 17))
        place = (22, min(height - 4, y + 4))
        cv2.putText(bar, f"{part * worst:g}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([picture, bar], axis=1)


def titled(picture: Picture, title: str) -> Picture:
    """An image below a line of text."""
    line = np.full((22, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(line, title, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([line, picture])


def score_map(scores: NDArray[np.floating]) -> Picture:
    """``(H, W)`` scores as :func:`heat_map`, from their 1st to their 99.5th percentile."""
    low, high = np.percentile(scores, (1, 99.5))
    return heat_map((scores - low) / max(float(high - low), 1e-12))


def heat_map(values: NDArray[np.floating]) -> Picture:
    """``(H, W)`` values in [0, 1] in viridis; what is not finite is white."""
    grey = (np.nan_to_num(np.clip(values, 0, 1)) * 255).round().astype(np.uint8)
    colors = np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8).copy()
    colors[~np.isfinite(values)] = 255
    return colors
