"""Cameras of the images: which share one, of which model, with which intrinsics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pycolmap
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.images.decoding import read_size
from posfeat_hloc.images.formats import colmap_reads, open_image
from posfeat_hloc.sfm.calibration import Calibration, calibration_of, check_parameters, only_size
from posfeat_hloc.sfm.diagnosis.camera_check import FOCAL_RANGE
from posfeat_hloc.sfm.options import CameraMode

MODES = get_args(CameraMode)

PANORAMA = "EQUIRECTANGULAR"
"""The model of panoramas, whose only parameters are the sides of the picture."""

START = 1.2
"""Focal length to start from where EXIF has none, as a part of the longer side (COLMAP's)."""
START_FISHEYE = 0.4
"""The same of fisheye lenses: 143 degrees across that side. It is taken for known, because the verification of pairs
without a known focal length supposes lenses that keep lines straight."""

_EXIF, _MAKER_NOTE = 0x8769, 0x927C


@dataclass(frozen=True)
class CameraOptions:
    """How cameras are assigned.

    Raises ConfigurationError for a mode, model or number of parameters that does not exist.
    """

    mode: str = "auto"
    """``single``: one camera for all images; ``folder``: one for each folder; ``image``: one for each image;
    ``auto``: one for images of the same folder, size, EXIF camera and EXIF focal length, or of the same given
    parameters, else one for each image."""
    model: str = "SIMPLE_RADIAL"
    """A COLMAP camera model."""
    params: tuple[float, ...] | None = None
    """Intrinsics to start from, in COLMAP's order for the model, in pixels; or the focal length alone."""
    calibrations: tuple[Calibration, ...] = ()
    """Intrinsics of folders or single images, in place of ``params``; the others are guessed."""
    videos: tuple[str, ...] = ()
    """Folders of frames of one camera each, whatever the mode says of the photographs beside them."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigurationError(f"camera mode {self.mode!r} does not exist; choose from {', '.join(MODES)}")
        if self.model not in pycolmap.CameraModelId.__members__ or self.model == "INVALID":
            models = ", ".join(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")
            raise ConfigurationError(f"camera model {self.model!r} does not exist; choose from {models}")
        probe = pycolmap.Camera.create_from_model_name(1, self.model, 1.0, 2, 2)
        alone = 1 if len(probe.focal_length_idxs()) == 1 else len(probe.params)
        if self.params is not None and len(self.params) not in (alone, len(probe.params)):
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
        ConfigurationError: images of different sizes were to share a camera, or parameters do not fit them.
    """
    check_cameras(sizes, options)
    groups: dict[tuple[object, ...], list[str]] = {}
    cameras: dict[str, pycolmap.Camera] = {}
    for name in sorted(sizes):
        camera, device = _infer(images / name, name, sizes[name], options)
        cameras[name] = camera
        groups.setdefault(_group_key(name, sizes[name], camera, device, options), []).append(name)
    return [(cameras[names[0]], names) for names in groups.values()]


def check_cameras(sizes: Mapping[str, tuple[int, int]], options: CameraOptions) -> list[str]:
    """Reject impossible cameras at the start, and list unusual or changed ones.

    Args:
        sizes: image name -> (width, height) as stored.
        options: see :class:`CameraOptions`.

    Raises:
        ConfigurationError: images of different sizes were to share a camera, or parameters do not fit them.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(sizes) if options.mode in ("single", "folder") else ():
        groups.setdefault("" if options.mode == "single" else name.rpartition("/")[0], []).append(name)
    for names in groups.values():
        different = {sizes[name] for name in names}
        if len(different) > 1:
            raise ConfigurationError(
                f"camera mode {options.mode!r} lets {names[0]} and others share a camera, but their sizes differ: "
                f"{', '.join(f'{w}x{h}' for w, h in sorted(different)[:4])}; use auto or image"
            )
    notes: dict[str, None] = {}
    if options.params is not None and sizes:
        only_size(sizes)
        name = min(sizes)
        notes[check_parameters(_given(sizes[name], options), name)] = None
    unused = {calibration.name for calibration in options.calibrations if not calibration.name.startswith("#")}
    for name in sorted(sizes):
        if (known := calibration_of(name, options.calibrations)) is not None:
            unused.discard(known.name)
            notes[check_parameters(known.camera(sizes[name], name), name)] = None
            if known.size != sizes[name]:
                (w, h), (v, g) = known.size, sizes[name]
                notes[f"intrinsics of {known.name or 'all images'} scaled from {w}x{h} to {v}x{g}"] = None
    if unused:
        raise ConfigurationError(f"the file of intrinsics names {min(unused)!r}, and no image has that name or folder")
    return [note for note in notes if note]


def sizes_of_files(images: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Image name -> (width, height) as stored, by the files' headers; without files that cannot be read."""
    sizes = {}
    for name in names:
        with suppress(ImageError):
            sizes[name] = read_size(images / name)
    return sizes


def _given(size: tuple[int, int], options: CameraOptions) -> pycolmap.Camera:
    """The camera that ``options.params`` describe."""
    assert options.params is not None
    camera = pycolmap.Camera.create_from_model_name(1, options.model, options.params[0], *size)
    if len(options.params) == len(camera.params):
        camera.params = list(options.params)
    camera.has_prior_focal_length = True
    return camera


def _group_key(
    name: str, size: tuple[int, int], camera: pycolmap.Camera, device: str | None, options: CameraOptions
) -> tuple[object, ...]:
    folder, mode = name.rpartition("/")[0], options.mode
    if mode != "image" and (known := calibration_of(name, options.calibrations)) is not None:
        return ("known", known.name, size)
    if mode == "single" or (mode == "auto" and options.params is not None):
        return ()
    if mode == "folder" or folder in options.videos:
        return (folder,)
    if mode == "auto" and device is not None and camera.has_prior_focal_length:
        return (folder, size, device, round(camera.mean_focal_length(), 3))
    return (name,)


def _infer(path: Path, name: str, size: tuple[int, int], options: CameraOptions) -> tuple[pycolmap.Camera, str | None]:
    """The camera of one image, and what EXIF calls the device."""
    width, height = size
    known = calibration_of(name, options.calibrations)
    if known is not None:
        return known.camera(size, name), None
    if options.params is not None:
        return _given(size, options), None
    camera = pycolmap.Camera.create_from_model_name(1, options.model, START * max(size), width, height)
    if options.model == PANORAMA:
        camera.has_prior_focal_length = True
        return camera, None
    fisheye = starts_as_fisheye(options.model)
    if fisheye:
        camera = pycolmap.Camera.create_from_model_name(1, options.model, START_FISHEYE * max(size), width, height)
        camera.has_prior_focal_length = True
    device, focal = _exif(path, size)
    possible = focal is not None and FOCAL_RANGE[0] <= focal / max(size) <= FOCAL_RANGE[1]
    if focal and possible and not fisheye:  # the 35 mm equivalent of a fisheye lens means another projection
        camera = pycolmap.Camera.create_from_model_name(1, options.model, focal, width, height)
        camera.has_prior_focal_length = True
    return camera, device


def starts_as_fisheye(model: str) -> bool:
    """Whether a camera model is for lenses of which the pinhole is no first guess."""
    return "FISHEYE" in model or model == "EUCM"


def _exif(path: Path, size: tuple[int, int]) -> tuple[str | None, float | None]:
    """What EXIF calls the device, and its focal length in pixels, as COLMAP computes it.

    Of files that COLMAP cannot read, the EXIF block is shown to it in a JPEG file of the same size.
    """
    if colmap_reads(path):
        bitmap = pycolmap.Bitmap.read(path, False)
    else:
        try:
            with open_image(path) as file:
                exif = file.getexif()
            if not exif:
                return None, None
            exif.get_ifd(_EXIF).pop(_MAKER_NOTE, None)  # may be larger than a JPEG file can hold
            with TemporaryDirectory() as folder:
                stand_in = Path(folder) / "exif.jpg"
                Image.new("L", size).save(stand_in, "JPEG", exif=exif)
                bitmap = pycolmap.Bitmap.read(stand_in, False)
        except (ImageError, OSError, ValueError):
            return None, None
    if bitmap is None or (bitmap.width, bitmap.height) != size:
        return None, None
    return bitmap.exif_camera_model(), bitmap.exif_focal_length()
