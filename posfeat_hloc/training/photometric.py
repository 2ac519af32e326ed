"""Photometric changes of training images: color jitter, the light of a scene, the camera.

:func:`color_jitter` and :func:`change_light` change single 8-bit images on the CPU, :func:`relight` batches where they
lie, and goes as far as a lit night. Geometry stays as it is, so corresponding points keep corresponding.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.resampling import Photograph

Intensities = NDArray[np.float32]
"""``(H, W)`` or ``(H, W, 3)``, intensities around [0, 1]."""

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
    """Scale the distance of ``(H, W, 3)`` uint8 values to the mean grey value of the image."""
    mean = float(np.round(_LUMA @ np.asarray(cv2.mean(image)[:3])))
    return _through_table(image, mean + factor * (np.arange(256) - mean))


def adjust_saturation(image: Photograph, factor: float) -> Photograph:
    """Scale the distance of every pixel of ``(H, W, 3)`` uint8 RGB to its own grey value; 0 gives a grey image."""
    matrix = factor * np.eye(3) + (1 - factor) * _LUMA
    return np.asarray(cv2.transform(image, matrix), np.uint8)  # rounds and saturates


def adjust_hue(image: Photograph, shift: float) -> Photograph:
    """Rotate the hue of ``(H, W, 3)`` uint8 RGB by a part of the full circle, in 256 steps."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around, as hue does
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def _through_table(image: Photograph, table: NDArray[np.floating]) -> Photograph:
    return np.asarray(cv2.LUT(image, np.clip(np.round(table), 0, 255).astype(np.uint8)), np.uint8)


def change_light(image: Photograph, rng: np.random.Generator, strength: float = 1.0) -> Photograph:
    """Change what a camera and the hour change: exposure, gamma, shade, blur, noise, JPEG.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8.
        strength: 0 leaves the image as it is, 1 goes as far as dusk and a shaky phone.
    """
    if strength <= 0:
        return image
    x = np.asarray(image / np.float32(255), np.float32)
    changes: list[tuple[float, Callable[[Intensities, np.random.Generator, float], Intensities]]]
    changes = [(0.7, _gamma), (0.4, _shade), (0.3, _smear), (0.8, _exposure), (0.5, _grain)]
    for probability, change in changes:
        if rng.random() < probability * min(1.0, strength):
            x = change(x, rng, strength)
    result = np.clip(x * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.4 * min(1.0, strength):
        quality = int(rng.integers(30, 95))
        encoded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        result = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8)
    return result


def _gamma(x: Intensities, rng: np.random.Generator, strength: float) -> Intensities:
    return np.asarray(x ** np.float32(2 ** rng.uniform(-0.9 * strength, 1.3 * strength)), np.float32)


def _shade(x: Intensities, rng: np.random.Generator, strength: float) -> Intensities:
    """Multiply by a smooth random field: cast shadows and street lamps."""
    grid = rng.uniform(1 - 0.6 * min(1.0, strength), 1.3, size=(4, 4)).astype(np.float32)
    field = cv2.resize(grid, (x.shape[1], x.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(x * field.reshape(*field.shape, *[1] * (x.ndim - 2)), np.float32)  # all channels alike


def _smear(x: Intensities, rng: np.random.Generator, strength: float) -> Intensities:
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 0.3 + 1.5 * strength)), np.float32)
    length, angle = rng.uniform(2, 2 + 5 * strength), rng.uniform(0, np.pi)
    kernel = np.zeros((9, 9), np.float32)
    step = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(np.round(4 + sign * step).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(x, -1, kernel / kernel.sum()), np.float32)


def _exposure(x: Intensities, rng: np.random.Generator, strength: float) -> Intensities:
    gain, offset = 2 ** rng.uniform(-0.8 * strength, 0.5 * strength), rng.uniform(-0.12, 0.12) * strength
    return np.asarray((x - 0.5) * gain + 0.5 + offset, np.float32)


def _grain(x: Intensities, rng: np.random.Generator, strength: float) -> Intensities:
    return x + rng.normal(0, rng.uniform(0.002, 0.03 * strength + 0.002), size=x.shape).astype(np.float32)


def relight(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Change the light of each image by itself.

    Applied in this order, each with a probability of its own: mixing of the color channels (white balance, saturation,
    infrared-like), inversion of contrast in parts (windows by day and by night), a smooth field of light, cast shadows
    with sharp or soft edges, a tone curve, night with lamps, haze, blur, low resolution, exposure, sensor noise.

    Args:
        images: ``(B, 3, H, W)`` RGB in [0, 1].
        generator: on the device of the images.
        strength: 0 leaves the images unchanged, 1 goes from noon to a lit night.

    Returns:
        ``(B, 3, H, W)`` in [0, 1].
    """
    if strength <= 0:
        return images
    draw = _Draw(images, generator)
    x = _mix_channels(images.float(), draw, strength)
    x = _where(draw.coin(0.12 * strength), _invert_parts(x, draw), x)
    x = _where(draw.coin(0.6), x * _field(draw, x, 1 - 0.75 * strength, 1 + 0.5 * strength), x)
    x = _where(draw.coin(0.5 * strength), x * _cast_shadow(draw, x, strength), x)
    x = _where(draw.coin(0.7), _tone_curve(x, draw, strength), x)
    x = _where(draw.coin(0.2 * strength), _night(x, draw), x)
    x = _where(draw.coin(0.15 * strength), _haze(x, draw), x)
    x = _where(draw.coin(0.3), _blur(x, draw), x)
    x = _where(draw.coin(0.15), _low_resolution(x), x)
    gain = 2 ** draw.uniform(-0.8 * strength, 0.5 * strength)
    x = _where(draw.coin(0.8), (x - 0.5) * gain + 0.5 + draw.uniform(-0.12, 0.12) * strength, x)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    x = _where(draw.coin(0.6), x + noise * draw.uniform(0, 0.05) * strength, x)
    return x.clamp(0, 1)


class _Draw:
    """Random numbers, one for each image of a batch, as ``(B, 1, 1, 1)``."""

    def __init__(self, images: Tensor, generator: torch.Generator) -> None:
        self.batch = len(images)
        self.device = images.device
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        size = shape or (1, 1, 1)
        return low + (high - low) * torch.rand((self.batch, *size), generator=self.generator, device=self.device)

    def coin(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability


def _where(chosen: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    return torch.where(chosen, changed, x)


def _mix_channels(x: Tensor, draw: _Draw, strength: float) -> Tensor:
    """White balance and a random mixture of channels; some images become grey by arbitrary, also negative, weights."""
    eye = torch.eye(3, device=x.device)
    spread = draw.uniform(0, 0.5, 1, 1) * strength
    matrix = eye + spread * draw.uniform(-1, 1, 3, 3)
    row_sum = matrix.sum(dim=2, keepdim=True)
    matrix = matrix / torch.where(row_sum.abs() < 0.3, torch.ones_like(row_sum), row_sum)
    grey = draw.uniform(-0.5, 1.5, 1, 3)
    grey_sum = grey.sum(dim=2, keepdim=True)
    grey = grey / torch.where(grey_sum < 0.3, torch.full_like(grey_sum, 0.3), grey_sum)
    matrix = torch.where(draw.uniform(0, 1, 1, 1) < 0.2 * strength, grey.expand(-1, 3, -1), matrix)
    balance = 2 ** (draw.uniform(-0.7, 0.7, 3, 1) * strength)
    mixed = torch.einsum("bij,bjhw->bihw", matrix * balance, x)
    return _where(draw.coin(0.8), mixed, x)


def _smooth(draw: _Draw, x: Tensor, cells: int) -> Tensor:
    """A smooth random field in about [0, 1]: ``(B, 1, H, W)``."""
    grid = draw.uniform(0, 1, 1, cells, cells)
    return F.interpolate(grid, size=x.shape[2:], mode="bicubic", align_corners=True)


def _field(draw: _Draw, x: Tensor, low: float, high: float) -> Tensor:
    return (low + (high - low) * _smooth(draw, x, 4)).clamp_min(0.05)


def _invert_parts(x: Tensor, draw: _Draw) -> Tensor:
    """Light becomes dark where a smooth field is high."""
    part = ((_smooth(draw, x, 5) - draw.uniform(0.4, 0.8)) * 12).sigmoid()
    return x * (1 - part) + (0.9 - 0.8 * x) * part


def _cast_shadow(draw: _Draw, x: Tensor, strength: float) -> Tensor:
    """A factor: a wavy edge between light and shadow, sharp or soft."""
    height, width = x.shape[2:]
    rows = torch.linspace(-1, 1, height, device=x.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=x.device)[None]
    angle = draw.uniform(0, 6.283)
    along = rows * angle.cos() + columns * angle.sin()
    across = columns * angle.cos() - rows * angle.sin()
    wave = draw.uniform(0, 0.3) * torch.sin(along * draw.uniform(1, 12) + draw.uniform(0, 6.283))
    stripes = torch.sin(across * draw.uniform(2, 20) + draw.uniform(0, 6.283)) * draw.uniform(-0.5, 1)
    edge = across + wave - draw.uniform(-0.7, 0.7)
    edge = torch.where(draw.coin(0.3), stripes + wave, edge)
    lit = (edge * 2 ** draw.uniform(2, 7)).sigmoid()
    dark = 1 - draw.uniform(0.2, 0.85) * strength
    return dark + (1 - dark) * lit


def _tone_curve(x: Tensor, draw: _Draw, strength: float) -> Tensor:
    """A random monotone curve through nine knots, and a power."""
    x = x.clamp(0, 1)
    power = 2 ** draw.uniform(-1.0 * strength, 1.5 * strength)
    steps = draw.uniform(0, 1, 8) ** (2 * strength) + 0.08
    knots = F.pad(steps.cumsum(dim=1) / steps.sum(dim=1, keepdim=True), (1, 0))
    position = x * 8
    lower = position.floor().clamp(0, 7)
    index = lower.long().flatten(1)
    low = knots.gather(1, index).view_as(x)
    high = knots.gather(1, index + 1).view_as(x)
    return (low + (high - low) * (position - lower)).clamp_min(1e-4) ** power


def _night(x: Tensor, draw: _Draw) -> Tensor:
    """Dark, tinted, lit by three lamps, with the noise of a sensor at its limit."""
    height, width = x.shape[2:]
    rows = torch.linspace(-1, 1, height, device=x.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=x.device)[None]
    light = draw.uniform(0.02, 0.15) * torch.ones_like(x[:, :1])
    for _ in range(3):
        distance = (rows - draw.uniform(-1, 1)) ** 2 + (columns - draw.uniform(-1, 1)) ** 2
        light = light + draw.uniform(0, 1.5) * torch.exp(-distance * 2 ** draw.uniform(0, 4))
    tint = draw.uniform(0.4, 1, 3, 1, 1)
    noise = torch.randn(x.shape, generator=draw.generator, device=x.device) * draw.uniform(0, 0.05)
    return (x * light * tint + noise) * draw.uniform(0.8, 2.5)


def _haze(x: Tensor, draw: _Draw) -> Tensor:
    """Mix with a bright veil that grows along a smooth field."""
    clear = (1 - draw.uniform(0.2, 0.9) * _smooth(draw, x, 3)).clamp(0.1, 1)
    return x * clear + draw.uniform(0.5, 1) * (1 - clear)


def _blur(x: Tensor, draw: _Draw) -> Tensor:
    """Between the image and twice smoothed by a binomial filter, of deviation 1.4 px."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device) / 16
    smooth = x
    for _ in range(2):
        for rows, columns in ((5, 1), (1, 5)):
            weight = kernel.view(1, 1, rows, columns).expand(3, -1, -1, -1)
            padding = (columns // 2, columns // 2, rows // 2, rows // 2)
            smooth = F.conv2d(F.pad(smooth, padding, mode="replicate"), weight, groups=3)
    return x + (smooth - x) * draw.uniform(0, 1)


def _low_resolution(x: Tensor) -> Tensor:
    small = F.avg_pool2d(x, 2)
    return F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
