"""Pixels in another size or after a rotation, with the intrinsics or the keypoints that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tilt:
    """Geometry of an image rotated by 45 degrees clockwise, on a canvas that holds all of it.

    Attributes:
        size: (width, height) of the image before.
        matrix: ``(2, 3)``, its pixels to those of the canvas.
    """

    size: tuple[int, int]
    matrix: NDArray[np.float64]

    def back(self, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N, 2)`` keypoints of the canvas in pixels of the image."""
        moved: NDArray[np.float64] = (keypoints - self.matrix[:, 2]) @ self.matrix[:, :2]  # of a rotation
        return moved.astype(np.float32)

    def inside(self, keypoints: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
        """Which ``(N, 2)`` keypoints are at least so many pixels inside the image."""
        last = np.array(self.size) - 1 - margin
        return np.asarray(((keypoints >= margin) & (keypoints <= last)).all(axis=1))


def tilted(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Tilt]:
    """``(H, W)`` or ``(H, W, 3)`` pixels after a rotation by 45 degrees clockwise.

    What is outside repeats the border, which gives hardly a keypoint: streaks have no corners, black would have edges.
    """
    height, width = pixels.shape[:2]
    side = int(np.ceil((width + height) / np.sqrt(2)))
    matrix = np.array([[1, -1, 0], [1, 1, 0]]) / np.sqrt(2)
    matrix[:, 2] = (side - 1) / 2 - matrix[:, :2] @ [(width - 1) / 2, (height - 1) / 2]
    canvas = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(canvas, np.uint8), Tilt((width, height), matrix)


def resize(pixels: NDArray[np.uint8], max_size: int | None) -> NDArray[np.uint8]:
    """Shrink so that the longer side is at most ``max_size``; smaller images stay as they are.

    Area averaging, as hloc's ``cv2_area``. No side becomes shorter than one pixel.
    """
    height, width = pixels.shape[:2]
    if max_size is None or max(height, width) <= max_size:
        return pixels
    scale = max_size / max(height, width)
    new_size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, new_size, interpolation=cv2.INTER_AREA), np.uint8)


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
    """Intrinsics of a fitted image.

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
