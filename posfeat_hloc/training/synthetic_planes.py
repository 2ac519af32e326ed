"""Posed pairs rendered from single photographs: textured planes and boxes before a wall, with true depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, DataError, ImageError
from posfeat_hloc.geometry.rotations import about_axis, look_at, rotation_angle
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.resampling import Photograph, resize
from posfeat_hloc.rendering.textured_planes import Camera, TexturedPlane, random_scene, rasterise, render
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE, Array, PosedPair, check_limits, transfer


@dataclass(frozen=True)
class PlanesOptions:
    """How the scenes look and how far apart their two views are.

    Raises ConfigurationError for values that cannot be.
    """

    size: tuple[int, int] = SIZE
    """(width, height) of the views in pixels."""
    max_rotation: float = MAX_ROTATION
    """Between the two cameras, in degrees."""
    objects: tuple[int, int] = (2, 5)
    """Fewest and most planes or boxes in front of the wall."""
    boxes: float = 0.4
    """Part of the objects that are boxes."""
    field_of_view: tuple[float, float] = (40.0, 75.0)
    """Horizontal, in degrees; drawn for each camera."""
    baseline: tuple[float, float] = (0.08, 0.8)
    """Shortest and longest, as a part of the depth of the point that both cameras look at."""
    roll: float = 12.0
    """Standard deviation of the turn about the optical axis, in degrees."""
    min_overlap: float = 0.25
    """Smallest part of either view that the other sees as well."""
    max_photographs: int = 400
    """Of a larger folder, this many are used; all are kept in memory, some 2 MB each."""

    def __post_init__(self) -> None:
        check_limits(self.size, self.max_rotation)
        for name in ("objects", "field_of_view", "baseline"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigurationError(f"{name} {low:g} to {high:g}: must not be negative, the smaller one first")
        if self.baseline[0] <= 0 or not 5 <= self.field_of_view[0] <= self.field_of_view[1] <= 100:
            raise ConfigurationError("the baseline must be above 0 and the field of view 5 to 100 degrees")


class PlanesSource:
    """Scenes of photographs, each pair a new one. A view shows only photographs: light is not changed here.

    Args:
        folder: with photographs of any kind.
        options: of scenes and views.
        keep: which names to use (for a held-out split); all when None.

    Attributes:
        skipped: one message for each file that cannot be used.

    Raises:
        ConfigurationError: the folder does not exist or holds no image.
        DataError: no image can be used.
    """

    TEXTURE = 1024
    """Longer side of the photographs in memory, in pixels."""

    def __init__(self, folder: Path, options: PlanesOptions, keep: Callable[[str], bool] | None = None) -> None:
        self.folder = folder
        self.options = options
        self.skipped: list[str] = []
        self.photographs: list[Photograph] = []
        names = [name for name in list_images(folder) if keep is None or keep(name)]
        if len(names) > options.max_photographs:  # evenly over the folder, the same ones every time
            names = [names[i * len(names) // options.max_photographs] for i in range(options.max_photographs)]
        for name in names:
            try:
                pixels = resize(read_image(folder / name).pixels, self.TEXTURE)
            except ImageError as error:
                self.skipped.append(str(error))
                continue
            if min(pixels.shape[:2]) < 64:
                self.skipped.append(f"{folder / name}: smaller than 64 pixels")
            else:
                self.photographs.append(pixels)
        if not self.photographs:
            reason = f"; the first: {self.skipped[0]}" if self.skipped else ""
            raise DataError(f"{folder}: none of the {len(names)} chosen photographs can be used{reason}")

    def __len__(self) -> int:
        return len(self.photographs)

    @property
    def description(self) -> str:
        """One line for the log."""
        skipped = f" (skipped: {len(self.skipped)} unusable files)" if self.skipped else ""
        return f"{self.folder}: scenes from {len(self)} photographs{skipped}"

    def sample(self, rng: np.random.Generator) -> PosedPair | None:
        """Draw a scene and two views of it, with depth; None when the views overlap too little."""
        options = self.options
        cameras = random_cameras(rng, options)
        planes = random_scene(rng, self.photographs, cameras[0], options.objects, options.boxes)
        turned = float(rotation_angle(cameras[1].R)) > options.max_rotation
        if turned or not _fills(planes[0], cameras):
            return None
        depth0, depth1 = (rasterise(planes, camera)[0] for camera in cameras)
        if overlap(cameras, (depth0, depth1)) < options.min_overlap:
            return None
        image0, image1 = (render(planes, camera) for camera in cameras)
        return PosedPair(
            image0, image1, cameras[0].K, cameras[1].K, cameras[1].R, cameras[1].t, depth0=depth0, depth1=depth1
        )


def random_cameras(rng: np.random.Generator, options: PlanesOptions) -> tuple[Camera, Camera]:
    """Camera 0 at the origin, looking along z; camera 1 beside it, looking at about the same point."""
    focus = np.array([0, 0, rng.uniform(0.5, 1.0)])
    step = rng.normal(size=3) * [1, 0.5, 0.5]  # people walk around things more than they climb or approach
    centre = step / np.linalg.norm(step) * rng.uniform(*options.baseline) * focus[2]
    target = focus + rng.normal(0, 0.06, size=3)
    R = about_axis(np.deg2rad(rng.normal(0, options.roll))) @ look_at(centre, target)
    K0, K1 = (_random_calibration(rng, options) for _ in range(2))
    return Camera(K0, np.eye(3), np.zeros(3), options.size), Camera(K1, R, -R @ centre, options.size)


def _random_calibration(rng: np.random.Generator, options: PlanesOptions) -> Array:
    width = options.size[0]
    focal = width / 2 / np.tan(np.deg2rad(rng.uniform(*options.field_of_view)) / 2)
    x, y = (np.array(options.size) - 1) / 2 + rng.normal(0, 0.02, size=2) * width
    return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])


def _fills(wall: TexturedPlane, cameras: tuple[Camera, Camera]) -> bool:
    """Whether the wall reaches beyond all corners of both views, and is nowhere seen at a very low angle."""
    normal = np.cross(wall.u, wall.v) / (np.linalg.norm(wall.u) * np.linalg.norm(wall.v))
    for camera in cameras:
        width, height = camera.size
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
        rays = corners @ np.linalg.inv(camera.K).T @ camera.R
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        if (rays @ normal).min() < np.sin(np.deg2rad(12)):
            return False
    return True


def overlap(cameras: tuple[Camera, Camera], depths: tuple[NDArray[np.float32], NDArray[np.float32]]) -> float:
    """The part of a view that the other sees as well, of the view with the smaller part; on every 8th pixel."""
    width, height = cameras[0].size
    x, y = np.meshgrid(np.arange(4, width, 8), np.arange(4, height, 8))
    points = np.c_[x.ravel(), y.ravel()].astype(np.float64)
    R, t = cameras[1].R, cameras[1].t
    K0, K1 = cameras[0].K, cameras[1].K
    seen1 = transfer(points, depths[0], depths[1], K0, K1, R, t)[1]
    seen0 = transfer(points, depths[1], depths[0], K1, K0, R.T, -R.T @ t)[1]
    return float(min(seen0.mean(), seen1.mean()))
