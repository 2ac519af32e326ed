"""Image files: listing, decoding, rotation and resizing.

Orientation is decided here and nowhere else. Networks see the image upright, as its EXIF tag says, because their
descriptors are not invariant to rotation. Everything that leaves the package (keypoints, image sizes, cameras)
refers to the pixels as they are *stored*, because COLMAP 4.2 and hloc ignore the tag: a model stays valid for COLMAP's
undistortion, dense stereo and colors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images.formats import EXTENSIONS as EXTENSIONS
from posfeat_hloc.images.formats import open_image
from posfeat_hloc.images.high_bit_depth import Usage, ValueRange, is_deep, read_deep
from posfeat_hloc.images.listing import survey

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class DecodedImage:
    """One 8-bit image, rotated upright.

    Attributes:
        pixels: ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8, upright.
        orientation: the EXIF tag, 1 to 8; 1 when the file is stored upright.
        notes: what was changed on the way (turned, alpha, depth, frames), for the summary.
        opaque: ``(H, W)`` where the image shows something, upright; None for everywhere.
    """

    pixels: NDArray[np.uint8]
    orientation: int = 1
    notes: tuple[str, ...] = ()
    opaque: NDArray[np.bool_] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright image."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the image as the file stores it."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def to_stored(self, keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move ``(N, 2)`` keypoints of the upright image to the pixels that the file stores."""
        width, height = self.stored_size
        x, y = keypoints[:, 0], keypoints[:, 1]
        turned = {
            1: (x, y),
            2: (width - 1 - x, y),
            3: (width - 1 - x, height - 1 - y),
            4: (x, height - 1 - y),
            5: (y, x),
            6: (y, height - 1 - x),
            7: (width - 1 - y, height - 1 - x),
            8: (width - 1 - y, x),
        }[self.orientation]
        return np.stack(turned, axis=1).astype(np.float32)

    def pixels_to_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Move ``(H, W)`` values of the pixels of the upright image to the pixels as stored."""
        width, height = self.size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        columns, rows = self.to_stored(np.stack([x.ravel(), y.ravel()], axis=1)).astype(int).T
        stored = np.empty(self.stored_size[::-1], values.dtype)
        stored[rows, columns] = values.ravel()
        return stored

    def rot90(self, quarters: int) -> DecodedImage:
        """The image after further rotations by 90 degrees clockwise; :meth:`to_stored` inverts all of them."""
        orientation = self.orientation
        for _ in range(quarters % 4):
            orientation = _AFTER_A_QUARTER[orientation]
        pixels = np.ascontiguousarray(np.rot90(self.pixels, -quarters))
        opaque = None if self.opaque is None else np.rot90(self.opaque, -quarters)
        return replace(self, pixels=pixels, orientation=orientation, opaque=opaque)


_AFTER_A_QUARTER = {1: 6, 6: 3, 3: 8, 8: 1, 2: 7, 7: 4, 4: 5, 5: 2}
"""EXIF orientation -> that of the same file shown after one more quarter turn clockwise."""


def list_images(folder: Path) -> list[str]:
    """Names of all images below a folder, as :func:`posfeat_hloc.images.listing.survey` finds them.

    Raises ConfigurationError when the folder does not exist, cannot be read, or holds no image.
    """
    return survey(folder).names


def read_image(
    path: Path, grayscale: bool = False, upright: bool = True, values: ValueRange | None = None
) -> DecodedImage:
    """Decode a file to an 8-bit image, rotated by its EXIF tag unless ``upright`` is False.

    Values of more than 8 bits are scaled, transparent pixels become black, CMYK becomes RGB, and of an animation the
    first frame is taken; each is said in ``notes``. A file is read as what it holds, whatever its ending.

    Args:
        path: of the file.
        grayscale: whether to give ``(H, W)`` grey pixels.
        upright: whether to turn the picture.
        values: what becomes 0 and 255 in a file of more than 8 bits, see
            :func:`posfeat_hloc.images.high_bit_depth.ranges_of`; None for what this file alone uses.

    Raises:
        ImageError: the file is missing, empty, truncated, not an image, or has more than 2^30 pixels.
    """
    notes: list[str] = []
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        deep = is_deep(path)
        try:
            with open_image(path) as file:
                found = _orientation(file)
                if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
                    notes.append("animation or multi-page file: only the first frame is used")
                if deep:
                    picture = _scaled(path, values, notes)
                    if file.format != "TIFF" and upright and found != 1:
                        picture = picture.transpose(_TURN[found])
                else:
                    picture = ImageOps.exif_transpose(file) if upright else file
                if file.format == "TIFF" and not upright and found != 1:  # decoders turn these while loading
                    picture = picture.transpose(_TURN_BACK[found])
                pixels, opaque = _to_8_bit(picture, grayscale, notes)
        except PIL.UnidentifiedImageError:
            if not deep:
                raise
            found = 1
            pixels, opaque = _to_8_bit(_scaled(path, values, notes), grayscale, notes)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except PermissionError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image that can be decoded") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise ImageError(f"{path}: cannot be decoded, it may be truncated ({error})") from error
    orientation = found if upright else 1
    if orientation != 1:
        notes.append("rotated upright for extraction (EXIF orientation)")
    return DecodedImage(pixels, orientation, tuple(notes), opaque)


def read_orientation(path: Path, default: int = 1) -> int:
    """The EXIF orientation of a file, 1 to 8; ``default`` where it has none or cannot be read. Decodes nothing."""
    try:
        with open_image(path) as file:
            return _orientation(file) if 0x0112 in file.getexif() else default
    except Exception:  # damaged tags raise anything
        return default


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as its file stores it, without decoding; raises ImageError where there is none."""
    try:
        with open_image(path) as file:
            turned = file.format == "TIFF" and _orientation(file) >= 5  # and Pillow turns it
            return (file.height, file.width) if turned else (file.width, file.height)
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise ImageError(f"{path}: cannot be read as an image ({error})") from error


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation that ``exif_transpose`` will apply; anything it does not know counts as upright."""
    value = file.getexif().get(0x0112, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _scaled(path: Path, values: ValueRange | None, notes: list[str]) -> Image.Image:
    """A file of more than 8 bits as an 8-bit picture: grey, RGB, or RGBA where it is transparent."""
    deep, opaque = read_deep(path)
    known = values or Usage.of(deep).range()
    integer = bool(np.issubdtype(deep.dtype, np.integer)) and known.high <= 65535
    notes.append(f"{known if integer else 'high dynamic range values'} were scaled to 8 bits")
    if not integer and not np.isfinite(deep).all():
        notes.append("values that are not finite were made black or white")
    picture = Image.fromarray(known.to_8_bit(deep))
    if opaque is not None:
        picture = picture.convert("RGB")
        picture.putalpha(Image.fromarray(opaque.astype(np.uint8) * np.uint8(255)))
    return picture


def _to_8_bit(
    picture: Image.Image, grayscale: bool, notes: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Grey or RGB pixels, and where they are opaque."""
    opaque = None
    if "A" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        if rgba.getextrema()[3][0] < 255:  # type: ignore[index,misc]
            notes.append("transparent pixels were made black and get no keypoints")
            opaque = np.asarray(rgba.getchannel("A")) >= 128
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, rgba)
    elif picture.mode == "CMYK":
        notes.append("CMYK was converted to RGB")
    return np.asarray(picture.convert("L" if grayscale else "RGB"), dtype=np.uint8), opaque
