"""Rendering of flat textured planes with known cameras, and random scenes of planes and boxes before a wall."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.geometry.rotations import about_axis
from posfeat_hloc.images.resampling import Array, Photograph, fit_calibration

_NEAR = 1e-3


@dataclass(frozen=True)
class TexturedPlane:
    """A textured parallelogram ``centre + a u + b v`` with a and b in [-1, 1].

    Attributes:
        centre, u, v: ``(3,)`` in the world; u and v lead from the centre to the middle of two edges.
        texture: ``(h, w, 3)`` uint8 that spans the plane; a grows with its columns, b with its rows.
        bounded: False for an endless plane, on which the texture is mirrored again and again.
    """

    centre: Array
    u: Array
    v: Array
    texture: Photograph
    bounded: bool = True


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: pixel ``~ K (R X + t)``."""

    K: Array
    R: Array
    t: Array
    size: tuple[int, int]
    """(width, height) in pixels."""

    def resized(self, size: tuple[int, int]) -> Camera:
        """The same camera with smaller or larger pixels; ``size`` has the same aspect."""
        return Camera(fit_calibration(self.K, self.size, size), self.R, self.t, size)

    def from_facet(self, plane: TexturedPlane) -> Array:
        """``(3, 3)``: plane coordinates (a, b, 1) to homogeneous pixels times depth."""
        columns = self.R @ np.stack([plane.u, plane.v, plane.centre], axis=1)
        columns[:, 2] += self.t
        return np.asarray(self.K @ columns)


def rasterise(planes: list[TexturedPlane], camera: Camera) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Which plane every pixel centre shows; at most 255 planes.

    Returns:
        depth ``(H, W)`` along the optical axis, 0 where nothing is seen; index of the plane ``(H, W)``, 255 for none.
    """
    width, height = camera.size
    nearest = np.zeros((height, width), np.float32)  # inverse depth
    labels = np.full((height, width), 255, np.uint8)
    for i, plane in enumerate(planes):
        matrix = camera.from_facet(plane)
        window = _window(matrix, camera.size) if plane.bounded else (0, 0, width, height)
        if window is None or np.linalg.cond(matrix) > 1e9:  # not in the image, or seen edge-on
            continue
        x0, y0, x1, y1 = window
        x, y = np.arange(x0, x1), np.arange(y0, y1)[:, None]
        a, b, inverse = (  # (a, b, 1) / depth is linear in the pixel
            ((row[0] * x + row[2]).astype(np.float32), (row[1] * y).astype(np.float32)) for row in np.linalg.inv(matrix)
        )
        here = inverse[0] + inverse[1]
        hit = here > nearest[y0:y1, x0:x1]
        if plane.bounded:
            for part in (a, b):
                hit &= np.abs(part[0] + part[1]) <= here
        np.copyto(nearest[y0:y1, x0:x1], here, where=hit)
        np.copyto(labels[y0:y1, x0:x1], np.uint8(i), where=hit)
    depth = np.zeros_like(nearest)
    np.divide(1, nearest, out=depth, where=nearest > 0)
    return depth, labels


def _window(matrix: Array, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """First and last (exclusive) column and row that can show a bounded plane, or None."""
    corners = matrix @ np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]).T
    if corners[2].max() < _NEAR:
        return None
    if corners[2].min() < _NEAR:  # reaches behind the camera
        return 0, 0, *size
    low, high = (corners[:2] / corners[2]).min(axis=1), (corners[:2] / corners[2]).max(axis=1)
    x0, y0 = np.clip(np.floor(low), 0, size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high) + 1, 0, size).astype(int).tolist()
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def render(planes: list[TexturedPlane], camera: Camera) -> Photograph:
    """The image ``(H, W, 3)`` that a camera takes; black where there is no plane.

    Edges do not alias: every pixel is the mean of the planes that its four quarters show.
    """
    labels = rasterise(planes, camera.resized((2 * camera.size[0], 2 * camera.size[1])))[1]
    picture = np.zeros((camera.size[1], camera.size[0], 3), np.uint8)
    mixed = np.zeros(picture.shape, np.float32)
    quarters = np.zeros(picture.shape[:2], np.uint8)
    for i, plane in enumerate(planes):
        cover = cv2.resize((labels == i).astype(np.uint8) * 4, camera.size, interpolation=cv2.INTER_AREA)
        x, y, width, height = cv2.boundingRect(cover)
        if width == 0:
            continue
        window = np.s_[y : y + height, x : x + width]
        shift = np.array([[1.0, 0, -x], [0, 1, -y], [0, 0, 1]])
        warped = _warp_texture(plane.texture, shift @ camera.from_facet(plane), (width, height))
        cv2.copyTo(warped, np.asarray(cover[window] == 4).view(np.uint8), picture[window])
        partial = (cover[window] > 0) & (cover[window] < 4)
        mixed[window][partial] += warped[partial] * (cover[window][partial, None] / np.float32(4))
        quarters[window][partial] = 1
    edges = quarters > 0
    picture[edges] = np.round(mixed[edges]).astype(np.uint8)
    return picture


def _warp_texture(texture: Photograph, from_facet: Array, size: tuple[int, int]) -> Photograph:
    """A texture seen through ``from_facet``, plane (a, b, 1) to pixel; shrunk first so that it does not alias."""
    to_texture = np.linalg.inv(from_facet @ _facet_from_texture(texture))
    middle = to_texture @ np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    # texture columns and rows per pixel at the middle of the window, from the Jacobian of the homography
    jacobian = (to_texture[:2, :2] - np.outer(middle[:2] / middle[2], to_texture[2, :2])) / middle[2]
    columns, rows = np.maximum(1.0, np.linalg.norm(jacobian, axis=1))
    if max(columns, rows) > 1.2:
        height, width = texture.shape[:2]
        smaller = max(2, round(width / columns)), max(2, round(height / rows))
        texture = np.asarray(cv2.resize(texture, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    homography = from_facet @ _facet_from_texture(texture)
    warped = cv2.warpPerspective(texture, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.uint8)


def _facet_from_texture(texture: Photograph) -> Array:
    """``(3, 3)``: texture pixel to plane coordinates; the borders of the texture are -1 and 1."""
    height, width = texture.shape[:2]
    return np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])


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
