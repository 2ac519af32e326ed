"""What every source of training data yields: two views and the points they share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError

Image = NDArray[np.uint8]
"""Grey image ``(H, W)``."""

Picture = NDArray[np.float32]
"""Grey image ``(H, W)``, intensities around [0, 1]."""


@dataclass(frozen=True)
class ViewPair:
    """Two square crops of the same surface and corresponding points in them.

    Attributes:
        images: two grey ``(S, S)`` uint8 crops.
        points0, points1: ``(N, 2)`` float32 (x, y), ``(0, 0)`` is the centre of the top-left pixel; row i of
            both is the same place in the world.
    """

    images: tuple[Image, Image]
    points0: NDArray[np.float32]
    points1: NDArray[np.float32]


Pair = TypeVar("Pair", covariant=True)
"""What a source yields: :class:`ViewPair`, or a pair of whole images with poses."""


class Source(Protocol[Pair]):
    """A collection of photographs that pairs can be drawn from."""

    def sample(self, rng: np.random.Generator) -> Pair | None:
        """Draw a pair, or None when the draw had too few common points (the caller draws again)."""


class RandomMix(Generic[Pair]):
    """Draws from several sources with given weights until a pair with points comes out."""

    def __init__(self, sources: Sequence[tuple[float, Source[Pair]]], max_draws: int = 200) -> None:
        self.sources = [source for _, source in sources]
        weights = np.array([weight for weight, _ in sources], dtype=np.float64)
        self.probabilities = weights / weights.sum()
        self.max_draws = max_draws

    def sample(self, rng: np.random.Generator) -> Pair:
        """Draw one pair; raises ConfigurationError when no source gives one."""
        for _ in range(self.max_draws):
            pair = self.sources[rng.choice(len(self.sources), p=self.probabilities)].sample(rng)
            if pair is not None:
                return pair
        raise ConfigurationError(
            f"{self.max_draws} draws gave no view pair with enough common points; the photographs are too small, too "
            "flat, or the models too sparse"
        )


def is_held_out(name: str) -> bool:
    """A tenth of all names, always the same ones: what is validated on."""
    return zlib.crc32(name.encode()) % 10 == 0


def warp(image: Image, homography: NDArray[np.float64], size: int) -> Image:
    """Resample a source image into a square view without aliasing.

    Args:
        image: ``(H, W)`` uint8.
        homography: 3x3, view pixel to source pixel.
        size: side of the view.
    """
    scale = _local_scale(homography, size)
    if scale > 1.2:  # the view shrinks the source: blur what the view cannot resolve
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(scale**2 - 1)), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(image, homography, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)


def transform(homography: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply a homography to ``(N, 2)`` points."""
    mapped = np.c_[points, np.ones(len(points))] @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def inside(points: NDArray[np.floating], width: float, height: float, margin: float = 0) -> NDArray[np.bool_]:
    """Which ``(N, 2)`` points keep a margin from the border of a width x height image."""
    low, high = margin, np.array([width - 1 - margin, height - 1 - margin])
    return np.asarray(((points >= low) & (points <= high)).all(axis=1))


def _local_scale(homography: NDArray[np.float64], size: int) -> float:
    """Source pixels per view pixel at the centre of the view."""
    centre = np.array([[size / 2, size / 2], [size / 2 + 1, size / 2], [size / 2, size / 2 + 1]])
    a, b, c = transform(homography, centre)
    return float(np.sqrt(abs((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0])))


def change_light(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Change what a camera and the hour change: exposure, gamma, shade, blur, noise, JPEG.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)`` uint8.
        strength: 0 leaves the image as it is, 1 goes as far as dusk and a shaky phone.
    """
    if strength <= 0:
        return image
    x = np.asarray(image / np.float32(255), np.float32)
    changes: list[tuple[float, Callable[[Picture, np.random.Generator, float], Picture]]]
    changes = [(0.7, _gamma), (0.4, _shade), (0.3, _blur), (0.8, _exposure), (0.5, _noise)]
    for probability, change in changes:
        if rng.random() < probability * min(1.0, strength):
            x = change(x, rng, strength)
    result = np.clip(x * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.4 * min(1.0, strength):
        quality = int(rng.integers(30, 95))
        encoded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        result = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8)
    return result


def _gamma(x: Picture, rng: np.random.Generator, strength: float) -> Picture:
    return np.asarray(x ** np.float32(2 ** rng.uniform(-0.9 * strength, 1.3 * strength)), np.float32)


def _shade(x: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Multiply by a smooth random field: cast shadows and street lamps."""
    grid = rng.uniform(1 - 0.6 * min(1.0, strength), 1.3, size=(4, 4)).astype(np.float32)
    field = cv2.resize(grid, (x.shape[1], x.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(x * field.reshape(*field.shape, *[1] * (x.ndim - 2)), np.float32)  # all channels alike


def _blur(x: Picture, rng: np.random.Generator, strength: float) -> Picture:
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 0.3 + 1.5 * strength)), np.float32)
    length, angle = rng.uniform(2, 2 + 5 * strength), rng.uniform(0, np.pi)
    kernel = np.zeros((9, 9), np.float32)
    step = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(np.round(4 + sign * step).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(x, -1, kernel / kernel.sum()), np.float32)


def _exposure(x: Picture, rng: np.random.Generator, strength: float) -> Picture:
    gain, offset = 2 ** rng.uniform(-0.8 * strength, 0.5 * strength), rng.uniform(-0.12, 0.12) * strength
    return np.asarray((x - 0.5) * gain + 0.5 + offset, np.float32)


def _noise(x: Picture, rng: np.random.Generator, strength: float) -> Picture:
    return x + rng.normal(0, rng.uniform(0.002, 0.03 * strength + 0.002), size=x.shape).astype(np.float32)
