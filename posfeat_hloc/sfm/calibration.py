"""Known intrinsics: which images they belong to, for which size they were made, and whether they fit.

Parameters in pixels are those of one image size. The principal point of nearly all cameras is near the centre of the
image, and so tells parameters of another size, or of the image turned by 90 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.text_files import numbered_lines

OFF_CENTRE = 0.05
"""Distance of the principal point from the centre, as a part of the side, that is said; lenses have 0.02 at most."""
OTHER_SIZE = 0.1
"""The same, above which the parameters are those of another size if both sides agree on it."""
SAME_SHAPE = 0.01
"""Relative difference of width / height below which parameters are scaled to another size."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of the images of a folder, or of one image.

    Attributes:
        name: of the folder or image, relative to the folder of all images; empty for all.
        model: of COLMAP.
        size: (width, height) of the images that the parameters were made for.
        params: in COLMAP's order, in pixels.
    """

    name: str
    model: str
    size: Size
    params: tuple[float, ...]

    def camera(self, size: Size, image: str = "") -> pycolmap.Camera:
        """For an image of another size, too, if it has the same shape: parameters are scaled.

        Raises:
            ConfigurationError: an image of another shape.
        """
        camera = pycolmap.Camera.create_from_model_name(1, self.model, 1.0, *self.size)
        camera.params = list(self.params)
        if size != self.size:
            shape, wanted = size[0] / size[1], self.size[0] / self.size[1]
            if abs(shape / wanted - 1) > SAME_SHAPE:
                raise ConfigurationError(
                    f"intrinsics of {self.name or 'all images'} are for {self.size[0]}x{self.size[1]} pixels, but "
                    f"{image or 'an image'} has {size[0]}x{size[1]}, another shape; calibrate with such images"
                )
            camera.rescale(*size)
        camera.has_prior_focal_length = True
        return camera


def read_calibrations(path: Path) -> tuple[Calibration, ...]:
    """Read a file of intrinsics, ``name MODEL width height params...`` a line.

    A name is a folder or an image, relative to the folder of all images, and ``.`` stands for all of them. Empty lines
    are left out, and lines that start with ``#`` and are of another form.

    Raises:
        ConfigurationError: no such file, nothing in it, or a line of another form.
    """
    found = []
    for number, line in numbered_lines(path, "a file of intrinsics"):
        try:
            found.append(_parse(line))
        except ValueError as error:
            if not line.startswith("#"):
                raise ConfigurationError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ConfigurationError(f"{path}: holds no intrinsics; write 'folder MODEL width height params...'")
    return tuple(found)


def _parse(line: str) -> Calibration:
    words = line.split()
    models = [i for i, word in enumerate(words) if word in pycolmap.CameraModelId.__members__ and word != "INVALID"]
    if not models or models[-1] == 0:
        raise ValueError("a line is 'folder MODEL width height params...' with a camera model of COLMAP")
    position = models[-1]
    name = line[: line.rindex(f" {words[position]} ")].strip() if position + 1 < len(words) else ""
    try:
        width, height, *params = (float(word) for word in words[position + 1 :])
    except ValueError as error:
        raise ValueError(f"after {words[position]} come width, height and parameters, all numbers") from error
    count = len(pycolmap.Camera.create_from_model_name(1, words[position], 1.0, 2, 2).params)
    if len(params) != count or not all(map(math.isfinite, params)) or min(width, height) < 1:
        raise ValueError(f"{words[position]} has width, height and {count} parameters")
    return Calibration("" if name in (".", "*") else name.strip("/"), words[position], (int(width), int(height)),
                       tuple(params))  # fmt: skip


def calibration_of(image: str, calibrations: tuple[Calibration, ...]) -> Calibration | None:
    """The calibration whose name is the image or its nearest folder; None without one."""
    covering = [c for c in calibrations if c.name in ("", image) or image.startswith(f"{c.name}/")]
    return max(covering, key=lambda c: len(c.name), default=None)


def check_parameters(camera: pycolmap.Camera, image: str) -> str:
    """Reject intrinsics that do not fit an image, and list unusual ones; empty if all checks passed.

    Args:
        camera: with the size of the picture.
        image: its name.

    Raises:
        ConfigurationError: a principal point that tells another size, or that is outside of the image, or a focal
            length that is not positive.
    """
    if any(not camera.params[i] > 0 for i in camera.focal_length_idxs()):
        raise ConfigurationError(
            f"the focal length {camera.focal_length:g} px is not positive; see ", Option("camera_params")
        )
    if not len(camera.principal_point_idxs()):
        return ""
    x, y = camera.principal_point_x, camera.principal_point_y
    width, height = camera.width, camera.height
    off_x, off_y = x / width - 0.5, y / height - 0.5
    told = f"the principal point ({x:g}, {y:g}) is {100 * max(abs(off_x), abs(off_y)):.0f} % of the side off centre"
    where = f"of {image}, {width}x{height} pixels"
    if max(abs(off_x), abs(off_y)) > OTHER_SIZE and _centred(x / height, y / width) and width != height:
        raise ConfigurationError(f"{told} {where}: the parameters are those of an image rotated by 90 degrees")
    if min(abs(off_x), abs(off_y)) > OTHER_SIZE and abs(x / width / (y / height) - 1) < OTHER_SIZE:
        raise ConfigurationError(
            f"{told} {where}: the parameters look like those of images of about {2 * x:.0f}x{2 * y:.0f} pixels; "
            f"multiply them by {width / (2 * x):.3g}, or give their size in a file (see ",
            Option("camera_params"),
            ")",
        )
    if not (0 < x < width and 0 < y < height):
        raise ConfigurationError(f"{told} {where}, outside the image; see the order of the model's parameters")
    return f"{told} {where}, as in cropped images" if max(abs(off_x), abs(off_y)) > OFF_CENTRE else ""


def _centred(x: float, y: float) -> bool:
    return abs(x - 0.5) < OFF_CENTRE and abs(y - 0.5) < OFF_CENTRE


def only_size(sizes: Mapping[str, Size]) -> Size:
    """The size of all images, which parameters in pixels need.

    Raises:
        ConfigurationError: there are several.
    """
    first: dict[Size, str] = {}
    for name, size in sizes.items():
        first.setdefault(size, name)
    if len(first) > 1:
        listed = ", ".join(f"{name} {width}x{height}" for (width, height), name in list(first.items())[:3])
        raise ConfigurationError(
            f"one set of camera parameters cannot fit images of {len(first)} sizes ({listed}); give those of each "
            "folder in a file, 'folder MODEL width height params...' a line: ",
            Option("camera_params", "FILE"),
        )
    return next(iter(first))
