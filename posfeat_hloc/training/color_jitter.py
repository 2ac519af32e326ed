"""Color changes of training images, with the meaning of torchvision's ColorJitter on 8-bit pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.resampling import Photograph

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as everywhere for 8-bit RGB


def color_jitter(
    image: Photograph,
    rng: np.random.Generator,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.4,
) -> Photograph:
    """Change brightness, contrast, saturation and hue in random order; the defaults are PoSFeat's.

    Args:
        image: ``(H, W, 3)`` RGB uint8.
        rng: every call draws the same number of values, whatever the strengths.
        brightness, contrast, saturation: each factor is uniform in ``[max(0, 1 - b), 1 + b]``.
        hue: the shift is uniform in ``[-hue, hue]``, as a part of the full circle.

    Raises:
        ConfigurationError: a strength is negative, or ``hue`` is above 0.5.
    """
    if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
        raise ConfigurationError("color changes must not be negative, and hue at most 0.5")
    changes = [
        (adjust_brightness, rng.uniform(max(0.0, 1 - brightness), 1 + brightness), brightness),
        (adjust_contrast, rng.uniform(max(0.0, 1 - contrast), 1 + contrast), contrast),
        (adjust_saturation, rng.uniform(max(0.0, 1 - saturation), 1 + saturation), saturation),
        (adjust_hue, rng.uniform(-hue, hue), hue),
    ]
    for i in rng.permutation(len(changes)):
        change, amount, strength = changes[i]
        if strength > 0:
            image = change(image, amount)
    return image


def adjust_brightness(image: Photograph, factor: float) -> Photograph:
    """Multiply ``(H, W, 3)`` uint8 values."""
    return _through_table(image, factor * np.arange(256))


def adjust_contrast(image: Photograph, factor: float) -> Photograph:
    """Scale the distance of ``(H, W, 3)`` uint8 values to the mean grey value of the picture."""
    mean = float(np.round(_LUMA @ np.asarray(cv2.mean(image)[:3])))
    return _through_table(image, mean + factor * (np.arange(256) - mean))


def adjust_saturation(image: Photograph, factor: float) -> Photograph:
    """Scale the distance of every pixel of ``(H, W, 3)`` uint8 RGB to its own grey value; 0 gives a grey picture."""
    matrix = factor * np.eye(3) + (1 - factor) * _LUMA
    return np.asarray(cv2.transform(image, matrix), np.uint8)  # rounds and saturates


def adjust_hue(image: Photograph, shift: float) -> Photograph:
    """Turn the hue of ``(H, W, 3)`` uint8 RGB by a part of the full circle, in 256 steps."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around, as hue does
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def _through_table(image: Photograph, table: NDArray[np.floating]) -> Photograph:
    return np.asarray(cv2.LUT(image, np.clip(np.round(table), 0, 255).astype(np.uint8)), np.uint8)
