"""Random scenes of textured planes and boxes before a wall."""

from __future__ import annotations

import cv2
import numpy as np

from posfeat_hloc.geometry.rotations import about_axis
from posfeat_hloc.images.resampling import Array, Photograph
from posfeat_hloc.rendering.textured_planes import Camera, TexturedPlane


def random_scene(
    rng: np.random.Generator, photographs: list[Photograph], camera: Camera, objects: tuple[int, int], boxes: float
) -> list[TexturedPlane]:
    """A slanted wall at depth 1, first, and planes and boxes between it and the camera.

    Args:
        rng: draws all of it.
        photographs: textures.
        camera: at the origin, looking along z.
        objects: fewest and most planes or boxes.
        boxes: part of them that are boxes.
    """
    wall = photographs[rng.integers(len(photographs))]
    half_height, half_width = np.array(wall.shape[:2]) / 2
    reach = 1.2 * max(camera.size[0] / half_width, camera.size[1] / half_height) / 2 / camera.K[0, 0]
    axes = _random_rotation(rng, tilt=20, roll=5)
    planes = [
        TexturedPlane(
            np.array([0, 0, 1.0]), axes[0] * reach * half_width, axes[1] * reach * half_height, wall, bounded=False
        )
    ]
    for _ in range(rng.integers(objects[0], objects[1] + 1)):
        pixel = rng.uniform(0.08, 0.92, size=2) * camera.size
        depth = rng.uniform(0.35, 0.9)
        centre = depth * np.linalg.solve(camera.K, [*pixel, 1.0])
        half = rng.uniform(0.1, 0.28, size=3) * depth * camera.size[0] / camera.K[0, 0]
        photograph = photographs[rng.integers(len(photographs))]
        if rng.random() < boxes:
            sides = 0.7 * half[:, None] * _random_rotation(rng, tilt=55, roll=12)
            planes += _box(rng, centre, sides, photograph)
        else:
            u, v, _ = half[:, None] * _random_rotation(rng, tilt=35, roll=12)
            planes.append(TexturedPlane(centre, u, v, _random_crop(rng, photograph, half[0] / half[1])))
    return planes


def _box(rng: np.random.Generator, centre: Array, sides: Array, photograph: Photograph) -> list[TexturedPlane]:
    """The six faces of a box with half sides ``(3, 3)``."""
    faces = []
    for i in range(3):
        u, v = sides[(i + 1) % 3], sides[(i + 2) % 3]
        for sign in (-1, 1):
            crop = _random_crop(rng, photograph, float(np.linalg.norm(u) / np.linalg.norm(v)))
            faces.append(TexturedPlane(centre + sign * sides[i], u, v, crop))
    return faces


def _random_crop(rng: np.random.Generator, photograph: Photograph, aspect: float) -> Photograph:
    """A part of a photograph, a third of it or more along one side, of about the given width by height."""
    height, width = photograph.shape[:2]
    largest = min(width, height * aspect)
    crop_width = largest * rng.uniform(0.35, 1.0)
    w, h = max(16, round(crop_width)), max(16, round(crop_width / aspect))
    w, h = min(w, width), min(h, height)
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return photograph[y : y + h, x : x + w]


def _random_rotation(rng: np.random.Generator, tilt: float, roll: float) -> Array:
    """Rows are the axes of an object: turned about x and y by up to ``tilt`` degrees, about z by a normal angle."""
    about_x, about_y = np.deg2rad(rng.uniform(-tilt, tilt, size=2))
    slant = cv2.Rodrigues(np.array([about_x, about_y, 0.0]))[0]
    return np.asarray(about_axis(np.deg2rad(rng.normal(0, roll))) @ slant.T, np.float64)
