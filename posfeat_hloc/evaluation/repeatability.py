"""Repeatability of keypoints between two images of a plane, with the same detector on both or with two."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.evaluation.homography import project

THRESHOLD = 3.0
"""Pixels; the usual one for points. D2D's Table 5 does not print its own."""


def repeatability(
    keypoints0: NDArray[np.floating],
    keypoints1: NDArray[np.floating],
    homography: NDArray[np.float64],
    size0: tuple[int, int],
    size1: tuple[int, int],
    threshold: float = THRESHOLD,
) -> float:
    """The share of keypoints in the common part of both images that are found in both.

    As Mikolajczyk et al. (2005), for points in place of regions: pairs that are each other's nearest and lie at most
    ``threshold`` apart in image 1, divided by the smaller number of keypoints in the common part. 0 where one image
    has none there.

    Args:
        keypoints0, keypoints1: ``(N0, 2)`` and ``(N1, 2)`` (x, y) pixels.
        homography: 3x3, image 0 to image 1.
        size0, size1: (width, height).
        threshold: in pixels of image 1.
    """
    there = project(keypoints0, homography)
    back = project(keypoints1, np.asarray(np.linalg.inv(homography), np.float64))
    seen0 = there[_inside(there, size1)]
    seen1 = np.asarray(keypoints1, np.float64)[_inside(back, size0)]
    if min(len(seen0), len(seen1)) == 0:
        return 0.0
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(seen0.astype(np.float32), seen1.astype(np.float32))
    return sum(pair.distance <= threshold for pair in pairs) / min(len(seen0), len(seen1))


def _inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points <= np.array(size) - 1)).all(axis=1), np.bool_)
