"""Masks of images: regions without keypoints, such as passers-by, the sky, or the photographer's car.

A mask is an image in which black (0) forbids keypoints, as COLMAP has it. It covers the pixels *as stored*. One that
has the size of the upright image instead, because it was made by a program that turns photographs, is turned back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.images.decoding import DecodedImage, read_image, read_orientation

_OUTLINE = 2  # pixels


@dataclass(frozen=True)
class Masks:
    """A folder of masks, laid out as the folder of the images.

    Attributes:
        folder: the mask of ``a/b.jpg`` is ``a/b.jpg.png`` (COLMAP's way) or ``a/b.png``.
    """

    folder: Path

    def path(self, name: str) -> Path | None:
        """The mask of an image; None where there is none, so that the whole image is used."""
        candidates = (self.folder / f"{name}.png", self.folder / PurePosixPath(name).with_suffix(".png"))
        return next((path for path in candidates if path.is_file()), None)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which of these images have no mask.

        Raises:
            ConfigurationError: no such folder, or none of the images has one: the wrong folder.
        """
        if not self.folder.is_dir():
            raise ConfigurationError(f"{self.folder}: no such folder; ", Option("masks"), " takes a folder of masks")
        found = [name for name in names if self.path(name) is None]
        if names and len(found) == len(names):
            raise ConfigurationError(
                f"{self.folder}: holds no mask of any of the {len(names)} images; that of {names[0]!r} would be "
                f"{self.folder / names[0]}.png"
            )
        return found

    def read(self, name: str, image: DecodedImage) -> NDArray[np.bool_] | None:
        """Allowed pixels ``(H, W)`` for keypoints, of the image as stored; None for all.

        Raises:
            ImageError: the mask cannot be decoded, or has another size than the image.
        """
        path = self.path(name)
        if path is None:
            return None
        mask = read_image(path, grayscale=True, upright=False).pixels > 0
        size = (mask.shape[1], mask.shape[0])
        if size == image.stored_size:
            return mask
        if size == image.size:
            return image.pixels_to_stored(mask)
        raise ImageError(
            f"{path}: the mask has {size[0]}x{size[1]} pixels, but its image {name} has {image.stored_size[0]}x"
            f"{image.stored_size[1]}; create the mask again from this image, or remove it"
        )

    def stored(self, name: str, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A mask for other programs: ``(H, W)``, 255 for allowed pixels; 255 everywhere without a mask.

        Args:
            name: of the image.
            path: of the image, whose EXIF orientation is read.
            size: (width, height) of the image as stored.

        Raises:
            ImageError: the mask cannot be decoded, or has another size than the image.
        """
        orientation = read_orientation(path)
        shown = size if orientation >= 5 else size[::-1]
        keep = self.read(name, DecodedImage(np.empty(shown, np.uint8), orientation))
        return np.full(size[::-1], 255, np.uint8) if keep is None else keep.astype(np.uint8) * np.uint8(255)


def opaque_pixels(image: DecodedImage) -> NDArray[np.bool_] | None:
    """Where a transparent image shows something, ``(H, W)`` for its pixels as stored; None for everywhere.

    Its outline is left out: there the image ends, and what a network sees is the edge of the black beyond it.
    """
    if image.opaque is None:
        return None
    margin = max(_OUTLINE, round(max(image.size) / 400))
    inside = cv2.erode(image.opaque.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0
    return image.pixels_to_stored(inside)
