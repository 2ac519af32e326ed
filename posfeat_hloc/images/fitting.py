"""Photographs of another size: scaled and cut, with the intrinsics of their cameras."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Photograph = NDArray[np.uint8]
"""RGB image ``(H, W, 3)``."""


def fit_image(image: Photograph, size: tuple[int, int]) -> Photograph:
    """Scale an image until it covers ``size`` (width, height) and keep its middle; see :func:`fit_calibration`."""
    height, width = image.shape[:2]
    scaled, (x, y) = _cover((width, height), size)
    if scaled != (width, height):
        shrinks = scaled[0] < width
        image = np.asarray(cv2.resize(image, scaled, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
    return np.ascontiguousarray(image[y : y + size[1], x : x + size[0]])


def fit_calibration(K: Array, source: tuple[int, int], size: tuple[int, int]) -> Array:
    """Intrinsics of a fitted picture.

    Args:
        K: ``(3, 3)`` of the image before, in pixels.
        source: its (width, height).
        size: (width, height) that :func:`fit_image` made of it.
    """
    scaled, (x, y) = _cover(source, size)
    sx, sy = scaled[0] / source[0], scaled[1] / source[1]
    # borders scale, not pixel centres: x' + 0.5 = sx (x + 0.5)
    change = np.array([[sx, 0, (sx - 1) / 2 - x], [0, sy, (sy - 1) / 2 - y], [0, 0, 1]])
    return np.asarray(change @ K, np.float64)


def _cover(source: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of the scaled image and the corner of the part that is kept."""
    scale = max(size[0] / source[0], size[1] / source[1])
    width, height = max(size[0], round(source[0] * scale)), max(size[1], round(source[1] * scale))
    return (width, height), ((width - size[0]) // 2, (height - size[1]) // 2)
