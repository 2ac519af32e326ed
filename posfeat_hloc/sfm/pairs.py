"""Which images are matched with which: all, neighbours in a sequence, those of a model that see the same."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.sfm.models import posed_images, read_model
from posfeat_hloc.stores.pairs import Pair


def exhaustive_pairs(names: Iterable[str]) -> list[Pair]:
    """Every image with every other: n (n - 1) / 2 pairs."""
    return list(combinations(sorted(set(names)), 2))


def sequences_of(names: Iterable[str]) -> list[list[str]]:
    """Images in the natural order of their names (``frame_2`` before ``frame_10``), one list for each camera.

    Cameras that took images side by side have a folder each, and the same names in all of them. Folders without
    common names follow one another, and are one sequence.
    """
    order = sorted(set(names), key=natural_order)
    folders: dict[str, list[str]] = {}
    for name in order:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    moments = [{_moment(name) for name in members} for members in folders.values()]
    shared = sum(len(moment) for moment in moments) - len(set().union(*moments)) if moments else 0
    fewest = min((len(moment) for moment in moments), default=0)
    return list(folders.values()) if len(folders) > 1 and 2 * shared >= fewest else [order]


def _moment(name: str) -> str:
    """What images that several cameras took at a time have in common: the name without folder and ending."""
    return name.rpartition("/")[2].rpartition(".")[0]


def sequential_pairs(names: Iterable[str], overlap: int = 10, quadratic: bool = True) -> list[Pair]:
    """Every image with the next ``overlap`` ones in the order of their names, of several cameras side by side also
    those that were taken at the same time.

    Args:
        names: images of one sequence, named so that numbers in them give the order of exposure; or of several cameras,
            with a folder each, see :func:`sequences_of`.
        overlap: neighbours on each side.
        quadratic: also the neighbours at distances 2 overlap, 4 overlap, ... up to 2^overlap, as COLMAP's sequential
            matcher does, which ties distant parts of a sequence together.
    """
    if overlap < 1:
        raise ConfigurationError(f"sequential pairs need an overlap of at least 1, not {overlap}")
    sequences = sequences_of(names)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {1 << power for power in range(overlap)}
    pairs = [
        (name, order[i + step])
        for order in sequences
        for i, name in enumerate(order)
        for step in sorted(steps)
        if i + step < len(order)
    ]
    moments: dict[str, list[str]] = {}
    for name in (name for order in sequences if len(sequences) > 1 for name in order):
        moments.setdefault(_moment(name), []).append(name)
    return pairs + [pair for together in moments.values() for pair in combinations(together, 2)]


def far_pairs(pairs: Iterable[Pair], names: Iterable[str], overlap: int, count: int) -> list[Pair]:
    """Of pairs of similar images, those that join distant parts of a sequence, or two of them.

    Args:
        pairs: (image, similar one), best first for each image.
        names: of the sequence, as for :func:`sequential_pairs`.
        overlap: images this near in the sequence are left out.
        count: for each image, the best so many of the others.
    """
    order = {name: (row, i) for row, sequence in enumerate(sequences_of(names)) for i, name in enumerate(sequence)}
    kept: dict[str, list[Pair]] = {}
    for pair in pairs:
        found = kept.setdefault(pair[0], [])
        (row0, place0), (row1, place1) = order[pair[0]], order[pair[1]]
        if (row0 != row1 or abs(place0 - place1) > overlap) and len(found) < count:
            found.append(pair)
    return [pair for found in kept.values() for pair in found]


_ROWS = 128  # images compared with all others at a time: 10 000 images take 30 MB


def covisibility_pairs(model: Path | pycolmap.Reconstruction, count: int) -> list[Pair]:
    """Every image with the ``count`` images that share most 3D points with it, best first.

    Images that share no point are never paired; of two with equally many points, the first by name comes first. A pair
    may appear in both orders, as in hloc's ``pairs_from_covisibility``.

    Args:
        model: a COLMAP model, or its folder.
        count: neighbours of an image.

    Raises:
        MappingError: no model in this folder.
        ConfigurationError: no images were asked for.
    """
    reconstruction, images = _registered(model, count)
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


def pose_pairs(model: Path | pycolmap.Reconstruction, count: int, max_angle: float = 30) -> list[Pair]:
    """Every image with the ``count`` nearest camera centres among those that look in a similar direction.

    Nearest first; a pair may appear in both orders, as in hloc's ``pairs_from_poses``.

    Args:
        model: a COLMAP model, or its folder; its points are not used.
        count: neighbours of an image.
        max_angle: the angle between the optical axes is smaller than this, in degrees.

    Raises:
        MappingError: no model in this folder.
        ConfigurationError: no images were asked for, or an angle outside 0 to 180.
    """
    _, images = _registered(model, count)
    if not 0 < max_angle <= 180:
        raise ConfigurationError(f"max_angle must be more than 0 and at most 180 degrees, not {max_angle}")
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


def _registered(
    model: Path | pycolmap.Reconstruction, count: int
) -> tuple[pycolmap.Reconstruction, list[pycolmap.Image]]:
    """A model and its images with a pose, by their names."""
    if count < 1:
        raise ConfigurationError(f"pairs need at least one neighbour of an image, not {count}")
    model = read_model(model) if isinstance(model, Path) else model
    return model, list(posed_images(model).values())
