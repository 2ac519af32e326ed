"""Cameras of the images: which share one, of which model, with which intrinsics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import ConfigurationError

MODES = ("auto", "single", "folder", "image")


@dataclass(frozen=True)
class CameraOptions:
    """How cameras are assigned.

    Raises ConfigurationError for a mode, model or number of parameters that does not exist.
    """

    mode: str = "auto"
    """``single``: one camera for all images; ``folder``: one for each folder; ``image``: one for each image;
    ``auto``: one for images of the same folder, size, EXIF camera and EXIF focal length, else one for each image."""
    model: str = "SIMPLE_RADIAL"
    """A COLMAP camera model."""
    params: tuple[float, ...] | None = None
    """Known intrinsics in COLMAP's order for the model, in pixels; they are then not refined."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigurationError(f"camera mode {self.mode!r} does not exist; choose from {', '.join(MODES)}")
        if self.model not in pycolmap.CameraModelId.__members__ or self.model == "INVALID":
            models = ", ".join(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")
            raise ConfigurationError(f"camera model {self.model!r} does not exist; choose from {models}")
        probe = pycolmap.Camera.create_from_model_name(1, self.model, 1.0, 2, 2)
        if self.params is not None and len(self.params) != len(probe.params):
            raise ConfigurationError(
                f"camera model {self.model} has {len(probe.params)} parameters "
                f"({probe.params_info}), not {len(self.params)}"
            )


def assign_cameras(
    images: Path, sizes: Mapping[str, tuple[int, int]], options: CameraOptions
) -> list[tuple[pycolmap.Camera, list[str]]]:
    """Group images by camera and guess each camera from EXIF.

    Args:
        images: folder of the images.
        sizes: image name -> (width, height) as stored.
        options: see :class:`CameraOptions`.

    Returns:
        cameras without ids, each with the names of its images, in the order of the names.

    Raises:
        ConfigurationError: images of different sizes were to share a camera.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    cameras: dict[str, pycolmap.Camera] = {}
    for name in sorted(sizes):
        camera, device = _infer(images / name, sizes[name], options)
        cameras[name] = camera
        groups.setdefault(_group_key(name, sizes[name], camera, device, options.mode), []).append(name)
    for names in groups.values():
        different = {sizes[name] for name in names}
        if len(different) > 1:
            raise ConfigurationError(
                f"camera mode {options.mode!r} lets {names[0]} and others share a camera, but their sizes differ: "
                f"{', '.join(f'{w}x{h}' for w, h in sorted(different)[:4])}; use auto or image"
            )
    return [(cameras[names[0]], names) for names in groups.values()]


def _group_key(
    name: str, size: tuple[int, int], camera: pycolmap.Camera, device: str | None, mode: str
) -> tuple[object, ...]:
    folder = name.rpartition("/")[0]
    if mode == "single":
        return ()
    if mode == "folder":
        return (folder,)
    if mode == "auto" and device is not None and camera.has_prior_focal_length:
        return (folder, size, device, round(camera.mean_focal_length(), 3))
    return (name,)


def _infer(path: Path, size: tuple[int, int], options: CameraOptions) -> tuple[pycolmap.Camera, str | None]:
    """The camera of one image, and what EXIF calls the device."""
    width, height = size
    guess = 1.2 * max(size)  # COLMAP's default focal length
    camera = pycolmap.Camera.create_from_model_name(1, options.model, guess, width, height)
    device = None
    if options.params is not None:
        camera.params = list(options.params)
        camera.has_prior_focal_length = True
        return camera, device
    bitmap = pycolmap.Bitmap.read(path, False)
    if bitmap is not None and (bitmap.width, bitmap.height) == size:
        device = bitmap.exif_camera_model()
        focal = bitmap.exif_focal_length()
        if focal:
            camera = pycolmap.Camera.create_from_model_name(1, options.model, focal, width, height)
            camera.has_prior_focal_length = True
    return camera, device
