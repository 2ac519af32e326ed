"""A small town square of textured planes with known cameras, photographed by day and by night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from posfeat_hloc.geometry.rotations import look_at
from posfeat_hloc.rendering import facades
from posfeat_hloc.rendering.textured_planes import Camera, TexturedPlane, rasterise, render

Array = NDArray[np.float64]
Photograph = NDArray[np.uint8]

_GROUND = 1.6  # metres below the cameras; y points down


@dataclass(frozen=True)
class _Walls:
    """Makes textured planes.

    Attributes:
        rng: of everything.
        photographs: see :func:`town_square`.
        texels: of a texture for a metre.
        houses: houses instead of painted planes, where there are no photographs.
    """

    rng: np.random.Generator
    photographs: Sequence[Photograph]
    texels: float
    houses: bool

    def panel(self, centre: ArrayLike, u: ArrayLike, v: ArrayLike, part: str) -> TexturedPlane:
        width, height = (max(32, round(2 * self.texels * float(np.linalg.norm(side)))) for side in (u, v))
        if self.photographs:
            texture = _piece(self.rng, self.photographs, (width, height))
        elif self.houses:
            texture = facades.texture(self.rng, (width, height), self.texels, part)
        else:
            texture = _paint(self.rng, (width, height))
        return TexturedPlane(np.array(centre, np.float64), np.array(u, np.float64), np.array(v, np.float64), texture)

    def block(self, centre: Array, half: Array, turn: float) -> list[TexturedPlane]:
        """The four sides and the top."""
        x = np.array([np.cos(turn), 0, np.sin(turn)]) * half[0]
        z = np.array([-np.sin(turn), 0, np.cos(turn)]) * half[2]
        y = np.array([0, half[1], 0])
        sides = [(x, z), (-x, z), (z, x), (-z, x)]
        return [
            *(self.panel(centre + out, along, y, "block") for out, along in sides),
            self.panel(centre - y, x, z, "block"),
        ]


def town_square(
    rng: np.random.Generator, photographs: Sequence[Photograph] = (), texels: float = 60.0, houses: bool = False
) -> list[TexturedPlane]:
    """Houses on three sides of a square of 24 x 14 m, the pavement, and three blocks on it; units are metres.

    Args:
        rng: of textures and blocks.
        photographs: ``(h, w, 3)``; textures are crops of them.
        texels: of a texture for a metre.
        houses: without photographs, textures of houses and ground (:mod:`posfeat_hloc.rendering.facades`) instead of
            random shapes and letters.
    """
    walls = _Walls(rng, photographs, texels, houses)
    planes = [walls.panel((0, _GROUND, 5), (12, 0, 0), (0, 0, 8), "ground")]
    for x in (-8, 0, 8):
        planes.append(walls.panel((x, _GROUND - 5, 12 + rng.uniform(0, 1)), (4, 0, 0), (0, 5, 0), "house"))
    for side in (-12, 12):
        for z in (1, 8.5):
            planes.append(walls.panel((side, _GROUND - 5, z), (0, 0, 3.75), (0, 5, 0), "side"))
    for about in (-5.5, 0.5, 6.0):
        half = rng.uniform(0.6, 1.1, size=3)
        centre = np.array([about + rng.uniform(-1, 1), _GROUND - half[1], rng.uniform(6.5, 9)])
        planes += walls.block(centre, half, turn=rng.uniform(-0.6, 0.6))
    return planes


def random_pose(rng: np.random.Generator) -> pycolmap.Rigid3d:
    """World to camera of a random viewpoint on the square towards the far houses."""
    centre = np.array([rng.uniform(-6, 6), rng.uniform(-0.3, 0.3), rng.uniform(-3, 2.5)])
    target = np.array([rng.uniform(-6, 6), rng.uniform(-1.8, 0.2), 11.0])
    return pose_towards(centre, target, rng.normal(0, 0.05))


def pose_towards(centre: Array, target: Array, roll: float = 0.0) -> pycolmap.Rigid3d:
    """World to camera at ``centre`` looking at ``target``, ``(3,)`` each; y is down, ``roll`` in radians."""
    rotation = look_at(centre, target, (np.sin(roll), np.cos(roll), 0.0))
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ centre)


def photograph(planes: list[TexturedPlane], camera: pycolmap.Camera, cam_from_world: pycolmap.Rigid3d) -> Photograph:
    """The image ``(h, w, 3)`` uint8 that a camera with its distortion takes."""
    pinhole = _pinhole(camera, cam_from_world)
    ideal = render(planes, pinhole)
    places = (_rays(camera) @ pinhole.K[:2, :2].T + pinhole.K[:2, 2]).astype(np.float32)
    return np.asarray(cv2.remap(ideal, places[..., 0], places[..., 1], cv2.INTER_LINEAR), np.uint8)


def visible_points(
    planes: list[TexturedPlane],
    points: Array,
    owners: NDArray[np.int64],
    camera: pycolmap.Camera,
    pose: pycolmap.Rigid3d,
) -> tuple[NDArray[np.bool_], Array]:
    """Which points on planes a camera sees, and where.

    Args:
        planes: of the scene.
        points: ``(N, 3)`` in the world.
        owners: ``(N,)`` index of each point's plane.
        camera, pose: of the picture.

    Returns:
        seen ``(N,)``, False as well within a pixel of the plane's edge; places ``(N, 2)`` in COLMAP's pixels, NaN
        behind the camera.
    """
    pinhole = _pinhole(camera, pose)
    _, labels = rasterise(planes, pinhole)
    local = pose * points
    places = np.asarray(camera.img_from_cam(local))
    front = (local[:, 2] > 0.1) & np.isfinite(places).all(axis=1)
    ideal = np.full((len(points), 2), -1.0)
    projected = local[front] @ pinhole.K.T
    ideal[front] = projected[:, :2] / projected[:, 2:]
    # where distortion folds, points far outside are projected into the image; the pinhole camera does not see them
    columns, rows = np.floor(ideal).astype(int).T
    inside = front & (ideal >= 0).all(axis=1) & (columns < pinhole.size[0] - 1) & (rows < pinhole.size[1] - 1)
    inside &= (places > 0).all(axis=1) & (places < (camera.width, camera.height)).all(axis=1)
    seen = np.zeros(len(points), bool)
    columns, rows = columns[inside], rows[inside]
    around = [labels[rows + down, columns + right] == owners[inside] for down in (0, 1) for right in (0, 1)]
    seen[inside] = np.all(around, axis=0)
    return seen, places


def random_points(rng: np.random.Generator, planes: list[TexturedPlane], count: int) -> tuple[Array, NDArray[np.int64]]:
    """``(count, 3)`` points spread evenly over the planes, and ``(count,)`` the plane of each."""
    areas = np.array([np.linalg.norm(np.cross(plane.u, plane.v)) for plane in planes])
    owners = rng.choice(len(planes), size=count, p=areas / areas.sum())
    a, b = rng.uniform(-1, 1, size=(2, count, 1))
    centres, u, v = (np.array([getattr(plane, part) for plane in planes]) for part in ("centre", "u", "v"))
    return centres[owners] + a * u[owners] + b * v[owners], owners


def as_night(picture: Photograph, rng: np.random.Generator) -> Photograph:
    """What a hand-held camera makes of a daylight image ``(h, w, 3)`` at night.

    Little light, most of it yellow and from lamps; blur of a long exposure; noise that grows with the square root of
    the light, and noise of reading.
    """
    height, width = picture.shape[:2]
    light = (picture / np.float32(255)) ** np.float32(2.2)
    x, y = np.meshgrid(np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32))
    lamps = np.full((height, width), 0.015, np.float32)
    for _ in range(3):
        distance = (x - rng.uniform()) ** 2 + (y - rng.uniform(0, 0.8)) ** 2
        lamps += np.float32(rng.uniform(0.1, 0.3)) * np.exp(-distance / np.float32(rng.uniform(0.02, 0.1)))
    light = light * lamps[..., None] * np.array([1.0, 0.8, 0.5], np.float32)
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.7, 1.2) * max(0.4, width / 480))
    light = cv2.filter2D(light, -1, _shake(rng, 2 + width // 120))
    noise = rng.standard_normal(light.shape, np.float32)
    light = light + noise * np.sqrt(light * np.float32(1e-3) + np.float32(1.6e-5))
    return np.round(np.clip(light, 0, 1) ** np.float32(1 / 2.2) * 255).astype(np.uint8)


def _shake(rng: np.random.Generator, length: int) -> Array:
    """A kernel that smears an image by up to ``length`` pixels in a random direction."""
    kernel = np.zeros((length, length), np.uint8)
    reach = (length - 1) / 2 * rng.uniform(0.3, 1.0)
    angle = rng.uniform(0, np.pi)
    ends = [(length // 2 + sign * reach * np.array([np.cos(angle), np.sin(angle)])) for sign in (-1, 1)]
    first, last = (tuple(int(value) for value in np.round(end * 16)) for end in ends)
    cv2.line(kernel, first, last, 255, 1, cv2.LINE_AA, shift=4)
    return kernel / float(kernel.sum())


def _pinhole(camera: pycolmap.Camera, pose: pycolmap.Rigid3d) -> Camera:
    """A camera without distortion that sees all that ``camera`` sees, the same number of pixels wider on each side."""
    rays = _rays(camera)
    focal = camera.mean_focal_length()
    middle = np.array([camera.principal_point_x, camera.principal_point_y]) - 0.5
    places = rays * focal + middle
    size = np.array([camera.width, camera.height])
    beyond = max(float(-places.min()), float((places - size).max()) + 1)
    shift = max(0, int(np.ceil(beyond)) + 1)
    x, y = middle + shift
    K = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]])
    width, height = (size + 2 * shift).tolist()
    return Camera(K, pose.rotation.matrix(), np.asarray(pose.translation), (width, height))


def _rays(camera: pycolmap.Camera) -> Array:
    """``(h, w, 2)``: where the ray of every pixel centre meets the plane at unit distance."""
    return _rays_of(camera.model_name, camera.width, camera.height, tuple(camera.params))


@lru_cache(maxsize=8)  # a data set has few kinds of cameras, and to undistort takes longer than to render
def _rays_of(model: str, width: int, height: int, params: tuple[float, ...]) -> Array:
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = camera.cam_from_img(np.stack([x, y], axis=-1).reshape(-1, 2))
    return np.asarray(rays, np.float64).reshape(height, width, 2)


def _piece(rng: np.random.Generator, photographs: Sequence[Photograph], size: tuple[int, int]) -> Photograph:
    """A random piece of a random photograph, in the shape of ``size`` (w, h)."""
    picture = photographs[int(rng.integers(len(photographs)))]
    height, width = picture.shape[:2]
    scale = rng.uniform(0.6, 1.0) * min(width / size[0], height / size[1])
    w, h = max(2, int(size[0] * scale)), max(2, int(size[1] * scale))
    x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
    how = cv2.INTER_AREA if w > size[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture[y : y + h, x : x + w], size, interpolation=how), np.uint8)


def _paint(rng: np.random.Generator, size: tuple[int, int]) -> Photograph:
    """Plaster, windows, signs and letters, ``(h, w, 3)``: corners at many scales, no two walls alike."""
    width, height = size
    plaster = np.zeros((height, width), np.float32)
    for cell in (3, 7, 20, 60):
        noise = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
        plaster += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) * np.float32(cell**0.3)
    color = rng.uniform(90, 190, size=3)
    picture = np.clip(color + 9 * plaster[..., None], 0, 255).astype(np.uint8)
    for _ in range(width * height // 1500):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        ink = rng.integers(0, 256, size=3).tolist()
        if rng.random() < 0.5:
            w, h = rng.integers(4, 40, size=2).tolist()
            cv2.rectangle(picture, (x, y), (x + w, y + h), ink, thickness=-1 if rng.random() < 0.6 else 2)
        else:
            letter, scale = chr(int(rng.integers(33, 127))), float(rng.uniform(0.5, 2))
            cv2.putText(picture, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 2, cv2.LINE_AA)
    return picture


def save_jpeg(path: Path, picture: Photograph, exif: bytes = b"") -> None:
    """Write a JPEG of high quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, format="JPEG", quality=95, subsampling=0, exif=exif)
