"""Images on their way to an extractor: decoded, turned, resized, with their masks, read ahead of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images import DecodedImage, read_image, resize
from posfeat_hloc.masks import Masks, opaque_pixels
from posfeat_hloc.threads import in_order
from posfeat_hloc.value_range import ValueRange

Conf = dict[str, Any]


def fingerprint(path: Path) -> str:
    """Changes when the file changes; empty when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Loaded:
    """An image file, decoded.

    Attributes:
        name: relative to the image folder.
        source: its :func:`fingerprint`, and that of its mask.
        image: as stored in the file, upright.
        tensor: ``(C, H, W)`` in [0, 1], resized.
        mask: ``(H, W)`` where keypoints may lie, in the file's pixels; None for everywhere.
    """

    name: str
    source: str
    image: DecodedImage
    tensor: torch.Tensor
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ImageInputs:
    """What features are made from.

    Attributes:
        images: their folder.
        masks: of the images.
        turn: quarter turns clockwise before extraction.
        ranges: of images with more than 8 bits, see :func:`posfeat_hloc.deep_images.ranges_of`.
    """

    images: Path
    masks: Masks | None = None
    turn: int = 0
    ranges: Mapping[str, ValueRange] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """Changes with the image, its mask, the turn and the range of values."""
        mask = None if self.masks is None else self.masks.path(name)
        parts = [fingerprint(self.images / name)]
        parts += [] if mask is None else [f"mask {fingerprint(mask)}"]
        parts += [f"turned by {90 * self.turn}"] if self.turn else []
        parts += [str(self.ranges[name])] if name in self.ranges else []
        return ", ".join(parts)

    def reader(self, preprocessing: Conf, grayscale: bool) -> Callable[[str], Loaded]:
        """A function that decodes, turns and resizes an image by its name; it raises ImageError."""

        def read(name: str) -> Loaded:
            source = self.source(name)
            image = read_image(self.images / name, grayscale, values=self.ranges.get(name))
            mask = opaque_pixels(image)
            if self.masks is not None and (given := self.masks.read(name, image)) is not None:
                mask = given if mask is None else mask & given
            image = image.turned(self.turn)
            return Loaded(name, source, image, _tensor(image.pixels, preprocessing), mask)

        return read


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
    picture = Image.fromarray(pixels).convert("L" if grayscale else "RGB")
    return _tensor(np.asarray(picture, np.uint8), preprocessing)


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raises ImageError for anything but ``(H, W, 3)`` or ``(H, W)`` uint8 with pixels."""
    if not isinstance(pixels, np.ndarray):
        raise ImageError(
            f"pixels are expected, an array (H, W, 3) or (H, W) uint8, not {str(pixels)[:80]!r}; "
            "posfeat_hloc.images.read_image(path).pixels reads a file"
        )
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)) or pixels.size == 0:
        raise ImageError(f"an image must be (H, W, 3) or (H, W) uint8, not {pixels.shape} {pixels.dtype}")
