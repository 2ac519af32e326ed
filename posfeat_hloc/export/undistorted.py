"""Undistorted photographs with their model, for Gaussian splatting and dense stereo.

images/     the photographs without distortion, and as their pixels are stored
masks/      <image name>.png, black where training ignores the pixels; only where masks were given
sparse/0/   the model, all cameras PINHOLE
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.errors import MappingError, Option
from posfeat_hloc.export.upright import Array
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.high_bit_depth import ValueRange, ranges_of
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.models import posed_images, write_model
from posfeat_hloc.sfm.options import ExportOptions

_KEPT = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
"""Endings that stay; other photographs become PNG files, because few programs read the rest."""

_QUALITY = 95  # of JPEG
_PINHOLE = ("PINHOLE", "SIMPLE_PINHOLE")
_WORKERS = min(4, os.cpu_count() or 1)
_AGREES = 0.5  # px; a place whose ray leads elsewhere has none, as beyond the half sphere of a fisheye camera


def write_undistorted(
    model: pycolmap.Reconstruction,
    images: Path,
    output: Path,
    turn: Array | None = None,
    options: ExportOptions | None = None,
) -> Path:
    """Undistort the photographs of a model, their masks and their 2D points; ``output`` is replaced.

    Poses and 3D points stay, but for ``turn``. Observations of places that have no ray are dropped. EXIF tags are not
    copied: programs that turn photographs by them would contradict the model.

    Args:
        model: is changed on the way.
        images: folder of its photographs.
        output: folder that is made.
        turn: ``(3, 3)`` rotation of the world, recorded in ``turned.json``.
        options: masks (photographs without one get a white one), longest side, and whether bars are drawn.

    Returns:
        ``output``.

    Raises:
        ImageError: a photograph cannot be read.
        MappingError: a photograph has another size than its camera, or a camera cannot be undistorted.
        ConfigurationError: no masks in that folder.
    """
    options = options or ExportOptions()
    masks = options.masks
    registered = list(posed_images(model).values())
    if masks is not None:
        Masks(masks).missing([image.name for image in registered])
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "sparse" / "0").mkdir(parents=True)
    if turn is not None:
        model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(turn), np.zeros(3)))
        (partial / "turned.json").write_text(json.dumps({"rotation": turn.tolist()}) + "\n", encoding="utf-8")
    cameras = {camera_id: _Camera.of(camera, options) for camera_id, camera in model.cameras.items()}
    names = _names(image.name for image in registered)
    ranges = ranges_of(images, names)

    def write(image: pycolmap.Image) -> None:
        _write_photograph(images, image.name, partial, names[image.name], cameras[image.camera_id], masks, options,
                          ranges.get(image.name))  # fmt: skip

    with ThreadPoolExecutor(_WORKERS) as pool:
        bar = Bar(pool.map(write, registered), "undistort", len(registered), unit="image", disable=not options.progress)
        for _ in bar:
            pass
    for image in registered:
        _move_points(model, image, cameras[image.camera_id])
        image.name = names[image.name]
    for camera_id, camera in cameras.items():
        camera.replace(model.cameras[camera_id])
    model.update_point_3d_errors()
    write_model(model, partial / "sparse" / "0")
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)
    return output


@dataclass(frozen=True)
class _Camera:
    """A camera as it was, and without distortion; ``same`` where photographs need no change."""

    distorted: pycolmap.Camera
    undistorted: pycolmap.Camera
    same: bool

    @classmethod
    def of(cls, camera: pycolmap.Camera, options: ExportOptions) -> _Camera:
        before = deepcopy(camera)
        size = options.max_size
        if camera.model_name in _PINHOLE and (size is None or max(camera.width, camera.height) <= size):
            values = camera.calibration_matrix()
            params = [values[0, 0], values[1, 1], values[0, 2], values[1, 2]]
            after = pycolmap.Camera(model="PINHOLE", width=camera.width, height=camera.height, params=params)
            return cls(before, after, True)
        try:
            return cls(before, pycolmap.undistort_camera(_colmap_options(options), before), False)
        except (ValueError, RuntimeError) as error:
            raise MappingError(
                f"camera {camera.camera_id} ({camera.model_name}) cannot be undistorted ({error})"
            ) from error

    def replace(self, camera: pycolmap.Camera) -> None:
        """Make a camera of the model the undistorted one."""
        camera.model = self.undistorted.model
        camera.width, camera.height = self.undistorted.width, self.undistorted.height
        camera.params = self.undistorted.params

    def undistort(self, pixels: NDArray[np.uint8], options: ExportOptions) -> NDArray[np.uint8]:
        """``(H, W)`` or ``(H, W, 3)`` pixels without distortion."""
        if self.same:
            return pixels
        bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(pixels))
        return np.asarray(
            pycolmap.undistort_image(_colmap_options(options), bitmap, self.distorted)[0].to_array(), np.uint8
        )


def _colmap_options(options: ExportOptions) -> pycolmap.UndistortCameraOptions:
    """They leave no blank pixels at the borders."""
    result = pycolmap.UndistortCameraOptions()
    result.max_image_size = options.max_size or -1
    return result


def _names(names: Iterable[str]) -> dict[str, str]:
    """Name of each photograph -> name of what is written for it."""
    return {name: name if PurePosixPath(name).suffix.lower() in _KEPT else f"{name}.png" for name in names}


def _write_photograph(
    images: Path,
    name: str,
    output: Path,
    new_name: str,
    camera: _Camera,
    masks: Path | None,
    options: ExportOptions,
    values: ValueRange | None,
) -> None:
    read = read_image(images / name, upright=False, values=values)
    size = (camera.distorted.width, camera.distorted.height)
    if read.size != size:
        raise MappingError(
            f"{images / name}: has {read.size[0]}x{read.size[1]} pixels, but its camera in the model has "
            f"{size[0]}x{size[1]}; name the folder of the photographs that the model was made of (",
            Option("images"),
            ")",
        )
    target = output / "images" / new_name
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = _KEPT[target.suffix.lower()]
    Image.fromarray(camera.undistort(read.pixels, options)).save(target, kind, quality=_QUALITY, subsampling=0)
    if masks is None:
        return
    white = Masks(masks).stored(name, images / name, size)
    mask = np.where(camera.undistort(white, options) > 127, 255, 0).astype(np.uint8)
    path = output / "masks" / f"{new_name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path, "PNG")


def _move_points(model: pycolmap.Reconstruction, image: pycolmap.Image, camera: _Camera) -> None:
    """Move an image's 2D points to where they are without distortion."""
    points = image.points2D
    if not len(points):
        return
    places = np.array([point.xy for point in points])
    rays = np.pad(np.asarray(camera.distorted.cam_from_img(places)), ((0, 0), (0, 1)), constant_values=1)
    with np.errstate(invalid="ignore"):
        right = np.linalg.norm(np.asarray(camera.distorted.img_from_cam(rays)) - places, axis=1) < _AGREES
    moved = np.asarray(camera.undistorted.img_from_cam(rays))
    for index, (point, place, sound) in enumerate(zip(points, moved, right, strict=True)):
        if sound:
            point.xy = place
        elif point.has_point3D():
            model.delete_observation(image.image_id, index)
