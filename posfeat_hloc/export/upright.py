"""Which way is up in a model: as most photographs were taken, by their EXIF orientation and their cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.images.decoding import DecodedImage

Array = NDArray[np.float64]

_ROUNDS = 50
_SPREAD = 0.05  # of the squared horizontal axes outside their main direction, for a plane to be determined
_SURE = 0.2  # cosine between the tops of most images and the vertical, above which they tell up from down


def up_direction(images: Sequence[pycolmap.Image], orientations: Mapping[str, int]) -> Array:
    """Unit vector ``(3,)`` in the world that points up, estimated from the photographs.

    People hold cameras level far more often than they aim them at the horizon: the horizontal axes of upright images
    lie in one plane, whose normal is up, wherever the cameras look. A few that were held askew do not matter: the sum
    of the deviations is minimised, not of their squares. Where all photographs look the same way, their tops decide.

    Args:
        images: with poses, at least one.
        orientations: image name -> EXIF orientation, 1 to 8; 1 for names that are missing.
    """
    axes = [_picture_axes(image, orientations.get(image.name, 1)) for image in images]
    right, top, forward = (np.array(part) for part in zip(*axes, strict=True))
    tops = _median_direction(top)
    weights = np.ones(len(right))
    for _ in range(_ROUNDS):
        values, vectors = np.linalg.eigh((right * weights[:, None]).T @ right)
        weights = 1 / np.maximum(np.abs(right @ vectors[:, 0]), 1e-3)
    if len(right) < 3 or values[1] < _SPREAD * values.sum():
        return tops
    vertical: Array = vectors[:, 0]
    sign = np.median(top @ vertical)
    if abs(sign) < _SURE:  # cameras that look down, as those of drones, or up
        sign = -np.median(forward @ vertical)
    return vertical if sign >= 0 else -vertical


def _picture_axes(image: pycolmap.Image, orientation: int) -> tuple[Array, Array, Array]:
    """To the right and to the top of the upright image, and where the camera looks; ``(3,)`` in the world."""
    shown = DecodedImage(np.zeros((2, 2), np.uint8), orientation)
    origin, beside, below = shown.to_stored(np.array([[0, 0], [1, 0], [0, 1]], np.float32)).astype(np.float64)
    world_from_camera = image.cam_from_world().rotation.inverse().matrix()
    pixels = np.array([[*(beside - origin), 0], [*(origin - below), 0], [0, 0, 1]])
    right, top, forward = pixels @ world_from_camera.T
    return right, top, forward


def _median_direction(directions: Array) -> Array:
    """The direction ``(3,)`` with the smallest sum of distances to unit vectors ``(N, 3)`` (Weiszfeld)."""
    middle = directions.mean(axis=0)
    for _ in range(_ROUNDS):
        weights = 1 / np.maximum(np.linalg.norm(directions - middle, axis=1), 1e-6)
        middle = weights @ directions / weights.sum()
    length = np.linalg.norm(middle)
    return np.asarray(middle / length if length > 1e-9 else directions[0])
