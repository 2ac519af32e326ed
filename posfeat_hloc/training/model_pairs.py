"""Pairs with common 3D points of a COLMAP model: crops for patch descriptors, photographs for a training pack."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.geometry.two_view import epipolar_errors, fundamental_matrix
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.sfm.models import epipolar_distances, read_model
from posfeat_hloc.training.photometric import change_light
from posfeat_hloc.training.view_pack import PackedPair, PackWriter
from posfeat_hloc.training.views import Image, ViewPair, inside, transform, warp

Array = NDArray[np.float64]

MIN_COVISIBLE = 30
"""Common points of a pair."""

INLIER = 2.0
"""How well points must agree with the poses, in pixels."""

MAX_ERROR = 2.0
"""Mean reprojection error of the points of a model that are used, in pixels."""


def observations(
    model: pycolmap.Reconstruction, max_error: float, keep: set[str] | None = None
) -> dict[int, dict[int, Array]]:
    """Image id -> 3D point id -> ``(2,)`` pixel, of images with a pose.

    Args:
        model: of COLMAP.
        max_error: points with a larger mean reprojection error are left out, in pixels.
        keep: names of images to use; all when None.
    """
    images = [image for image in model.images.values() if image.has_pose and (keep is None or image.name in keep)]
    found: dict[int, dict[int, Array]] = {image.image_id: {} for image in images}
    for point_id, point in model.points3D.items():
        for element in point.track.elements if point.error <= max_error else ():
            if element.image_id in found:  # COLMAP's pixel (0.5, 0.5) is our (0, 0)
                xy = model.images[element.image_id].points2D[element.point2D_idx].xy
                found[element.image_id][point_id] = np.asarray(xy) - 0.5
    return found


def covisible_pairs(observed: dict[int, dict[int, Array]], least: int) -> list[tuple[int, int]]:
    """Pairs of image ids with a minimum number of common points."""
    return [
        (i, j) for i, j in combinations(sorted(observed), 2) if len(observed[i].keys() & observed[j].keys()) >= least
    ]


@dataclass(frozen=True)
class ColmapOptions:
    """Which pairs of a model are used and how their crops vary."""

    size: int = 224
    """Side of a crop in pixels."""
    min_covisible: int = MIN_COVISIBLE
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
    max_error: float = MAX_ERROR
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
        self.observations = observations(reconstruction, options.max_error, keep_images)
        self.pairs = covisible_pairs(self.observations, options.min_covisible)
        if not self.pairs:
            raise MappingError(
                f"{model}: no two images share {options.min_covisible} 3D points; use a larger reconstruction"
            )
        used = {image_id for pair in self.pairs for image_id in pair}
        self.images: dict[int, Image] = {}
        for image_id in used:
            name = reconstruction.images[image_id].name
            self.images[image_id] = read_image(images / name, grayscale=True, upright=False).pixels

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


def _random_similarity(rng: np.random.Generator, centre: Array, opt: ColmapOptions) -> Array:
    """Crop pixel to image pixel: jittered rotation and magnification around ``centre``."""
    angle, zoom = np.deg2rad(rng.normal(0, opt.rotation)), opt.scale ** rng.uniform(-1, 1)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (opt.size - 1) / 2 + rng.uniform(-0.25, 0.25, size=2) * opt.size
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre - linear @ middle
    return matrix


def add_model(writer: PackWriter, folder: Path, images: Path, most: int, seed: int) -> int:
    """Add the photographs of a model with poses, and pairs of them with common points.

    Args:
        writer: of the pack.
        folder: with a COLMAP model (text or binary).
        images: folder of its photographs.
        most: pairs, drawn at random.
        seed: of that draw.

    Returns:
        the number of pairs.
    """
    model = read_model(folder)
    group = images.parent.name if images.name == "images" else images.name
    observed = observations(model, MAX_ERROR)
    added = {}
    for image_id in sorted(observed):
        name = model.images[image_id].name
        added[image_id] = writer.add_image(read_image(images / name, upright=False).pixels, name, group)
    rng = np.random.default_rng(seed)
    candidates = covisible_pairs(observed, MIN_COVISIBLE)
    count = 0
    for k in rng.permutation(len(candidates)):
        if count == most:
            break
        pair = _model_pair(model, candidates[k], observed, added)
        if pair is not None:
            writer.add_pair(pair)
            count += 1
    return count


def _model_pair(
    model: pycolmap.Reconstruction,
    ids: tuple[int, int],
    observed: dict[int, dict[int, Array]],
    added: dict[int, tuple[int, tuple[float, float]]],
) -> PackedPair | None:
    """Common points that agree with the poses, and the fundamental matrix of the stored photographs."""
    common = sorted(observed[ids[0]].keys() & observed[ids[1]].keys())
    xy = [np.array([observed[i][p] for p in common]) for i in ids]
    names = [model.images[i].name for i in ids]
    near = epipolar_distances(model, names[0], names[1], xy[0], xy[1]) < 2 * INLIER
    calibrations, stored = [], []
    for i, points in zip(ids, xy, strict=True):
        scale = np.array(added[i][1])
        change = np.array([[scale[0], 0, -0.5], [0, scale[1], -0.5], [0, 0, 1]])  # COLMAP's pixels to ours
        calibrations.append(change @ model.cameras[model.images[i].camera_id].calibration_matrix())
        stored.append((points + 0.5) * scale - 0.5)
    relative = model.images[ids[1]].cam_from_world() * model.images[ids[0]].cam_from_world().inverse()
    t = np.asarray(relative.translation)
    if np.linalg.norm(t) < 1e-9:
        return None
    matrix = fundamental_matrix(calibrations[0], calibrations[1], relative.rotation.matrix(), t)
    near &= epipolar_errors(matrix, stored[0], stored[1])[1] < 3 * INLIER  # lens distortion bends lines
    if near.sum() < 20:
        return None
    points = np.c_[stored[0][near], stored[1][near]].astype(np.float32)
    return PackedPair(added[ids[0]][0], added[ids[1]][0], points, None, matrix, np.stack(calibrations))
