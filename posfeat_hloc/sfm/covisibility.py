"""Pairs of images of a model that see the same: by common 3D points, or by poses alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.reconstruction import read_model
from posfeat_hloc.stores.pairs import Pair

_ROWS = 128  # images compared with all others at a time: 10 000 images take 30 MB


def covisibility_pairs(model: Path, count: int) -> list[Pair]:
    """Every image with the ``count`` images that share most 3D points with it, best first.

    Images that share no point are never paired; of two with equally many points, the first by name comes first. A pair
    may appear in both orders, as in hloc's ``pairs_from_covisibility``.

    Args:
        model: folder of a COLMAP model.
        count: neighbours of an image.

    Raises:
        MappingError: no model in this folder.
        ConfigurationError: no images were asked for.
    """
    return model_covisibility_pairs(read_model(model), count)


def model_covisibility_pairs(reconstruction: pycolmap.Reconstruction, count: int) -> list[Pair]:
    """:func:`covisibility_pairs` of a model in memory."""
    _check_count(count)
    images = _registered(reconstruction)
    rows = {image.image_id: row for row, image in enumerate(images)}
    tracks = [
        np.unique(np.array([rows[element.image_id] for element in point.track.elements], np.int64))
        for point in reconstruction.points3D.values()
    ]
    if not tracks:
        return []
    # both directions of "image sees point", as lists cut into pieces
    images_of_points = np.concatenate(tracks)
    ends = np.cumsum([len(track) for track in tracks])
    points = np.repeat(np.arange(len(tracks)), np.diff(ends, prepend=0))
    order = np.argsort(images_of_points, kind="stable")
    points_of_images = np.split(points[order], np.cumsum(np.bincount(images_of_points, minlength=len(images)))[:-1])
    pairs = []
    for row, seen in enumerate(points_of_images):
        if not len(seen):
            continue
        shared = np.bincount(np.concatenate([tracks[point] for point in seen]), minlength=len(images))
        shared[row] = 0
        best = np.argsort(-shared, kind="stable")[:count]
        pairs += [(images[row].name, images[other].name) for other in best if shared[other] > 0]
    return pairs


def pose_pairs(model: Path, count: int, max_angle: float = 30) -> list[Pair]:
    """Every image with the ``count`` nearest camera centres among those that look in a similar direction.

    Nearest first; a pair may appear in both orders, as in hloc's ``pairs_from_poses``.

    Args:
        model: folder of a COLMAP model; its points are not used.
        count: neighbours of an image.
        max_angle: the angle between the optical axes is smaller than this, in degrees.

    Raises:
        MappingError: no model in this folder.
        ConfigurationError: no images were asked for, or an angle outside 0 to 180.
    """
    return model_pose_pairs(read_model(model), count, max_angle)


def model_pose_pairs(reconstruction: pycolmap.Reconstruction, count: int, max_angle: float = 30) -> list[Pair]:
    """:func:`pose_pairs` of a model in memory."""
    _check_count(count)
    if not 0 < max_angle <= 180:
        raise ConfigurationError(f"max_angle must be more than 0 and at most 180 degrees, not {max_angle}")
    images = _registered(reconstruction)
    if not images:
        return []
    centres = np.array([image.projection_center() for image in images])
    axes = np.array([image.viewing_direction() for image in images])
    pairs = []
    for start in range(0, len(images), _ROWS):
        block = slice(start, start + _ROWS)
        distances = _distances(centres[block], centres)
        angles = np.degrees(np.arccos(np.clip(axes[block] @ axes.T, -1, 1)))
        distances[angles >= max_angle] = np.inf
        np.fill_diagonal(distances[:, start:], np.inf)
        for image, distance in zip(images[block], distances, strict=True):
            nearest = np.argsort(distance, kind="stable")[:count]
            pairs += [(image.name, images[other].name) for other in nearest if np.isfinite(distance[other])]
    return pairs


def _distances(points0: NDArray[np.float64], points1: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, M)`` distances; coordinate by coordinate, because products would cancel far from the origin."""
    squares = np.zeros((len(points0), len(points1)))
    for coordinate0, coordinate1 in zip(points0.T, points1.T, strict=True):
        squares += (coordinate0[:, None] - coordinate1[None]) ** 2
    return np.sqrt(squares)


def _registered(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)


def _check_count(count: int) -> None:
    if count < 1:
        raise ConfigurationError(f"pairs need at least one neighbour of an image, not {count}")
