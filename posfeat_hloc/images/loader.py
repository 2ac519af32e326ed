"""Images for an extractor: decoded, rotated, resized, with their masks, prefetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.confs import Conf
from posfeat_hloc.errors import ImageError
from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.decoding import DecodedImage, read_image
from posfeat_hloc.images.high_bit_depth import ValueRange
from posfeat_hloc.images.masks import Masks, opaque_pixels
from posfeat_hloc.images.resampling import Tilt, resize, tilted
from posfeat_hloc.runtime.computation import in_order


def fingerprint(path: Path) -> str:
    """Changes when the file changes; empty when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Picture:
    """What an extractor sees of an image.

    Attributes:
        tensor: ``(C, H, W)`` in [0, 1], resized.
        tilt: where an eighth of a turn put it; None for quarter turns.
    """

    tensor: torch.Tensor
    tilt: Tilt | None = None


@dataclass(frozen=True)
class Loaded:
    """An image file, decoded.

    Attributes:
        name: relative to the image folder.
        source: its :func:`fingerprint`, and that of its mask.
        image: as stored in the file, upright.
        picture: of it.
        mask: ``(H, W)`` where keypoints may lie, in the file's pixels; None for everywhere.
        view: how it is shown.
        second: a further image, of another size.
    """

    name: str
    source: str
    image: DecodedImage
    picture: Picture
    mask: NDArray[np.bool_] | None = None
    view: View = UPRIGHT
    second: Picture | None = None

    @property
    def tensor(self) -> torch.Tensor:
        """``(C, H, W)`` of the image."""
        return self.picture.tensor


@dataclass(frozen=True)
class ImageInputs:
    """What features are made from.

    Attributes:
        images: their folder.
        masks: of the images.
        rot90: quarter turns clockwise before extraction, of all images.
        ranges: of images with more than 8 bits, see :func:`posfeat_hloc.images.high_bit_depth.ranges_of`.
        views: of images that are shown otherwise than as they are; turns add up.
        exif: turn images as their EXIF tags say, first of all.
    """

    images: Path
    masks: Masks | None = None
    rot90: int = 0
    ranges: Mapping[str, ValueRange] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    exif: bool = True

    def view(self, name: str) -> View:
        """How an image is shown."""
        view = self.views.get(name, UPRIGHT)
        return View((view.rotation + 90 * self.rot90) % 360, view.second)

    def source(self, name: str) -> str:
        """Changes with the image, its mask, how it is shown and the range of values."""
        mask = None if self.masks is None else self.masks.path(name)
        parts = [fingerprint(self.images / name)]
        parts += [] if mask is None else [f"mask {fingerprint(mask)}"]
        parts += [] if self.exif else ["as stored"]
        parts += [str(self.view(name))]
        parts += [str(self.ranges[name])] if name in self.ranges else []
        return ", ".join(filter(None, parts))

    def reader(self, preprocessing: Conf, grayscale: bool) -> Callable[[str], Loaded]:
        """A function that decodes, rotates and resizes an image by its name; it raises ImageError."""

        def read(name: str) -> Loaded:
            source = self.source(name)
            image = read_image(self.images / name, grayscale, self.exif, self.ranges.get(name))
            mask = opaque_pixels(image)
            if self.masks is not None and (given := self.masks.read(name, image)) is not None:
                mask = given if mask is None else mask & given
            return shown(name, source, image, mask, self.view(name), preprocessing)

        return read


def shown(
    name: str, source: str, image: DecodedImage, mask: NDArray[np.bool_] | None, view: View, preprocessing: Conf
) -> Loaded:
    """An image, resized and rotated for an extractor; see :class:`Loaded`."""
    image = image.rot90(view.rotation // 90)
    pixels = resize(image.pixels, preprocessing.get("resize_max"))
    second = _picture(_resized(pixels, image.pixels, view.second), view) if view.second else None
    return Loaded(name, source, image, _picture(pixels, view), mask, view, second)


def _picture(pixels: NDArray[np.uint8], view: View) -> Picture:
    """Pixels that stand after quarter turns, turned by the eighth that is left."""
    if view.rotation % 90 == 0:
        return Picture(_tensor(pixels, {}))
    turned, tilt = tilted(pixels)
    return Picture(_tensor(turned, {}), tilt)


def _resized(pixels: NDArray[np.uint8], full: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The image in another size than its resized ``pixels``, from the full ones where they hold more."""
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    shrinks = full.shape[1] >= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(full, (width, height), interpolation=interpolation), np.uint8)


def _tensor(pixels: NDArray[np.uint8], preprocessing: Conf) -> torch.Tensor:
    """``(C, H, W)`` in [0, 1], resized, of ``(H, W)`` or ``(H, W, 3)`` pixels."""
    pixels = resize(pixels, preprocessing.get("resize_max"))
    channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.tensor(np.ascontiguousarray(channels)).float() / 255


def prefetch(
    read: Callable[[str], Loaded], names: Sequence[str], ahead: int = 2, decoders: int = 1
) -> Iterator[tuple[str, Loaded | ImageError]]:
    """Decode in the background, a few images ahead of the network; memory holds ``ahead + 1`` of them at most."""

    def attempt(name: str) -> tuple[str, Loaded | ImageError]:
        try:
            return name, read(name)
        except ImageError as error:
            return name, error

    with ThreadPoolExecutor(max_workers=decoders) as pool:
        yield from in_order(pool, attempt, names, ahead)


def picture_tensor(pixels: NDArray[np.uint8], preprocessing: Conf, grayscale: bool) -> torch.Tensor:
    """``(C, H, W)`` in [0, 1], converted and resized as files are, of ``(H, W, 3)`` RGB or ``(H, W)`` grey pixels.

    Raises:
        ImageError: an array of another shape or type, or without pixels.
    """
    check_pixels(pixels)
    return _tensor(converted_pixels(pixels, grayscale), preprocessing)


def converted_pixels(pixels: NDArray[np.uint8], grayscale: bool) -> NDArray[np.uint8]:
    """``(H, W)`` grey or ``(H, W, 3)`` RGB, as an extractor takes them."""
    return np.asarray(Image.fromarray(pixels).convert("L" if grayscale else "RGB"), np.uint8)


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raises ImageError for anything but ``(H, W, 3)`` or ``(H, W)`` uint8 with pixels."""
    if not isinstance(pixels, np.ndarray):
        raise ImageError(
            f"pixels are expected, an array (H, W, 3) or (H, W) uint8, not {str(pixels)[:80]!r}; "
            "posfeat_hloc.images.decoding.read_image(path).pixels reads a file"
        )
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)) or pixels.size == 0:
        raise ImageError(f"an image must be (H, W, 3) or (H, W) uint8, not {pixels.shape} {pixels.dtype}")
