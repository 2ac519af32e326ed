"""View pairs cut from a COLMAP model: crops around the observations of common 3D points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.training.views import Image, ViewPair, change_light, inside, transform, warp


@dataclass(frozen=True)
class ColmapOptions:
    """Which pairs of a model are used and how their crops vary."""

    size: int = 224
    """Side of a crop in pixels."""
    min_covisible: int = 30
    """Image pairs with fewer common 3D points are left out."""
    rotation: float = 10.0
    """Standard deviation of an in-plane rotation added to each crop, in degrees."""
    scale: float = 1.25
    """Each crop is magnified by a factor between 1/scale and scale (the papers' scale jitter)."""
    light: float = 0.5
    """Strength of photometric changes added to those the photographs already have."""
    max_points: int = 512
    margin: int = 16
    min_points: int = 12
    max_error: float = 2.0
    """3D points with a larger mean reprojection error are left out, in pixels."""


class ColmapSource:
    """Pairs of crops from the images of one reconstruction.

    Args:
        model: folder with a COLMAP model (text or binary).
        images: folder with its images.
        options: selection of pairs and jitter of crops.
        keep_images: names to use (for a held-out split); all when None.

    Raises:
        MappingError: the folder holds no model, or no two images see enough common points.
        ImageError: an image is missing or cannot be read.
    """

    def __init__(self, model: Path, images: Path, options: ColmapOptions, keep_images: set[str] | None = None) -> None:
        self.options = options
        reconstruction = read_model(model)
        self.observations: dict[int, dict[int, NDArray[np.float64]]] = defaultdict(dict)
        names: dict[int, str] = {}
        for point_id, point in reconstruction.points3D.items():
            if point.error > options.max_error:
                continue
            for element in point.track.elements:
                image = reconstruction.images[element.image_id]
                if keep_images is None or image.name in keep_images:
                    names[image.image_id] = image.name
                    # COLMAP's pixel (0.5, 0.5) is our (0, 0)
                    self.observations[image.image_id][point_id] = image.points2D[element.point2D_idx].xy - 0.5
        self.pairs = self._covisible_pairs()
        if not self.pairs:
            raise MappingError(
                f"{model}: no two images share {options.min_covisible} 3D points; use a larger reconstruction"
            )
        used = {image_id for pair in self.pairs for image_id in pair}
        self.images: dict[int, Image] = {}
        for image_id in used:
            pixels = read_image(images / names[image_id], grayscale=True, upright=False).pixels
            self.images[image_id] = pixels

    def _covisible_pairs(self) -> list[tuple[int, int]]:
        ids = sorted(self.observations)
        pairs = []
        for i, id0 in enumerate(ids):
            points0 = self.observations[id0].keys()
            for id1 in ids[i + 1 :]:
                if len(points0 & self.observations[id1].keys()) >= self.options.min_covisible:
                    pairs.append((id0, id1))
        return pairs

    def sample(self, rng: np.random.Generator) -> ViewPair | None:
        """Draw a covisible pair, one common point, and a crop around it in either image."""
        opt = self.options
        pair = self.pairs[rng.integers(len(self.pairs))]
        id0, id1 = pair if rng.random() < 0.5 else pair[::-1]
        common = sorted(self.observations[id0].keys() & self.observations[id1].keys())
        xy = [np.array([self.observations[i][p] for p in common]) for i in (id0, id1)]
        centre = rng.integers(len(common))
        crops, points = [], []
        for image_id, xy_image in zip((id0, id1), xy, strict=True):
            to_source = _random_similarity(rng, xy_image[centre], opt)
            points.append(transform(np.linalg.inv(to_source), xy_image))
            crops.append(change_light(warp(self.images[image_id], to_source, opt.size), rng, opt.light))
        keep = inside(points[0], opt.size, opt.size, opt.margin) & inside(points[1], opt.size, opt.size, opt.margin)
        if keep.sum() < opt.min_points:
            return None
        chosen = rng.permutation(np.flatnonzero(keep))[: opt.max_points]
        return ViewPair(
            (crops[0], crops[1]), points[0][chosen].astype(np.float32), points[1][chosen].astype(np.float32)
        )


def _random_similarity(
    rng: np.random.Generator, centre: NDArray[np.float64], opt: ColmapOptions
) -> NDArray[np.float64]:
    """Crop pixel to image pixel: jittered rotation and magnification around ``centre``."""
    angle, zoom = np.deg2rad(rng.normal(0, opt.rotation)), opt.scale ** rng.uniform(-1, 1)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (opt.size - 1) / 2 + rng.uniform(-0.25, 0.25, size=2) * opt.size
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre - linear @ middle
    return matrix
