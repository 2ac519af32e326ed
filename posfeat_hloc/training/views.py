"""View pairs: two views and the points they share; those of single photographs are made by random homographies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training.photometric import change_light

Image = NDArray[np.uint8]
"""Grey image ``(H, W)``."""


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


@dataclass(frozen=True)
class SyntheticOptions:
    """How far apart two synthetic views may be."""

    size: int = 224
    """Side of a view in pixels."""
    rotation: float = 20.0
    """Standard deviation of the in-plane rotation of each view in degrees (cut at 3 deviations)."""
    scale: float = 1.4
    """Each view is magnified by a factor between 1/scale and scale."""
    tilt: float = 0.25
    """Largest shift of a view's corners, as a part of its side."""
    light: float = 1.0
    """Strength of the photometric changes, 0 for none."""
    max_points: int = 512
    """Points drawn in a pair."""
    margin: int = 16
    """Points keep this distance from the borders of both views, in pixels."""
    min_points: int = 32
    """Pairs with fewer common points are drawn again."""
    min_contrast: float = 4.0
    """Points keep at least this standard deviation of grey values (0..255) around them in either view: nobody can
    match clear sky."""


class SyntheticSource:
    """Pairs of homography views of photographs.

    Args:
        images: grey ``(H, W)`` uint8 photographs.
        options: the range of view changes.
        lattice: round the points of the first view to the cells of a dense map with this
            ``(stride, offset)``, so that one side of each pair is read without interpolation.
    """

    def __init__(self, images: list[Image], options: SyntheticOptions, lattice: tuple[int, int] | None = None) -> None:
        self.images = images
        self.options = options
        self.lattice = lattice

    def sample(self, rng: np.random.Generator) -> ViewPair | None:
        """Draw a photograph, a place in it and two views of that place."""
        opt = self.options
        image = self.images[rng.integers(len(self.images))]
        height, width = image.shape
        centre = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
        # source pixels per view pixel: small photographs are enlarged rather than mirrored at their border
        base = min(1.6, min(height, width) / opt.size) * rng.uniform(0.55, 1.0)
        views = [random_homography(rng, centre, base, opt) for _ in range(2)]

        points0 = rng.uniform(opt.margin, opt.size - 1 - opt.margin, size=(opt.max_points, 2))
        if self.lattice is not None:
            stride, offset = self.lattice
            points0 = np.unique(np.round((points0 - offset) / stride) * stride + offset, axis=0)
        source = transform(views[0], points0)
        points1 = transform(np.linalg.inv(views[1]), source)
        keep = inside(source, width, height) & inside(points1, opt.size, opt.size, opt.margin)
        keep &= inside(points0, opt.size, opt.size, opt.margin)
        if keep.sum() < opt.min_points:
            return None
        crops = [warp(image, view, opt.size) for view in views]
        points0, points1 = points0[keep], points1[keep]
        keep = textured(crops[0], points0, opt.min_contrast) & textured(crops[1], points1, opt.min_contrast)
        if keep.sum() < opt.min_points:
            return None
        crops = [change_light(crop, rng, opt.light) for crop in crops]
        return ViewPair((crops[0], crops[1]), points0[keep].astype(np.float32), points1[keep].astype(np.float32))


def textured(view: Image, points: NDArray[np.float64], min_contrast: float, window: int = 25) -> NDArray[np.bool_]:
    """Which points have a standard deviation of at least ``min_contrast`` in the box around them."""
    x = view.astype(np.float32)
    mean, square = cv2.blur(x, (window, window)), cv2.blur(x * x, (window, window))
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    column, row = np.round(points).astype(int).T
    return np.asarray(deviation[row, column] >= min_contrast)


def random_homography(
    rng: np.random.Generator, centre: NDArray[np.float64], base: float, opt: SyntheticOptions
) -> NDArray[np.float64]:
    """A view around ``centre``: rotation, magnification and four shifted corners; view to source pixels."""
    half = opt.size / 2
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    shifted = corners + rng.uniform(-opt.tilt, opt.tilt, size=(4, 2)) * opt.size * rng.uniform(0, 1)
    angle = np.deg2rad(np.clip(rng.normal(0, opt.rotation), -3 * opt.rotation, 3 * opt.rotation))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    zoom = base * opt.scale ** rng.uniform(-1, 1)
    shift = rng.uniform(-0.15, 0.15, size=2) * opt.size
    target = (shifted + shift) @ rotation.T * zoom + centre
    return _homography(corners + half, target)


def _homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3x3 matrix that maps four points to four points, by the direct linear equations."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solution = np.linalg.solve(np.array(rows), target.reshape(-1))
    return np.append(solution, 1.0).reshape(3, 3)
