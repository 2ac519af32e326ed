"""A rendered room around the camera, for lenses that see more than half of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.rendering import texture

Array = NDArray[np.float64]
HALF = np.array([4.0, 3.0, 5.0])
"""Half the sides of the room; its middle is the origin."""
_PIXELS = 110.0  # of the texture for a unit of length


def fisheye_rays(side: int, focal: float) -> Array:
    """``(H, W, 3)`` of an equidistant lens, ``r = f * angle``; zeros beyond 90 degrees."""
    x, y = np.meshgrid(*[np.arange(side) + 0.5 - side / 2] * 2)
    radius = np.hypot(x, y)
    angle = radius / focal
    across = np.sin(angle) / np.maximum(radius, 1e-9)
    rays = np.stack([x * across, y * across, np.cos(angle)], axis=-1)
    return np.where(angle[..., None] < np.pi / 2, rays, 0.0)


def panorama_rays(width: int) -> Array:
    """``(W / 2, W, 3)`` of an equirectangular panorama, its middle along z, y down."""
    longitude, latitude = np.meshgrid(
        ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi,
        ((np.arange(width // 2) + 0.5) / (width // 2) - 0.5) * np.pi,
    )
    cosine = np.cos(latitude)
    return np.stack([np.sin(longitude) * cosine, np.sin(latitude), np.cos(longitude) * cosine], axis=-1)


def render_room(rays: Array, rotation: Array, centre: Array) -> NDArray[np.uint8]:
    """A grey image ``(H, W)`` of the room from a place in it.

    Args:
        rays: ``(H, W, 3)`` in the camera's frame; zeros where it sees nothing.
        rotation: ``(3, 3)`` from the world to the camera.
        centre: of the camera.
    """
    directions = rays @ rotation
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = (np.sign(directions) * HALF - centre) / directions
    distances = np.where(np.abs(directions) > 1e-9, distances, np.inf)
    axis = distances.argmin(axis=-1)
    nearest = np.take_along_axis(distances, axis[..., None], axis=-1)
    hits = centre + directions * np.where(np.isfinite(nearest), nearest, 0.0)
    picture = np.zeros(rays.shape[:2], np.uint8)
    for face in range(6):
        along, side = face // 2, (-1) ** face
        chosen = (axis == along) & (np.sign(np.take_along_axis(directions, axis[..., None], -1)[..., 0]) == side)
        chosen &= np.abs(rays).sum(axis=-1) > 0
        others = [i for i in range(3) if i != along]
        places = [(hits[..., other] + HALF[other]) * _PIXELS for other in others]
        pattern = texture(1150, seed=40 + face)
        sampled = cv2.remap(pattern, *(place.astype(np.float32) for place in places), cv2.INTER_LINEAR)
        picture[chosen] = sampled[chosen]
    return picture


def write_room(folder: Path, rays: Array, count: int = 5, turn: float = 0.25) -> dict[str, tuple[Array, Array]]:
    """Pictures from places along a curve; name -> (rotation from the world, centre)."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = {}
    for i in range(count):
        angle = turn * (i - count / 2)
        rotation = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        centre = np.array([0.7 * (i - count / 2), 0.3 * np.cos(2 * i), 0.25 * i])
        name = f"{i}.png"
        Image.fromarray(render_room(rays, rotation, centre)).save(folder / name)
        cameras[name] = (rotation, centre)
    return cameras
