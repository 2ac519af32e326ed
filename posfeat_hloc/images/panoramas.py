"""Panoramas of the whole sphere: twice as wide as high, and known by metadata or by edges that join."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images.formats import open_image

SEAM = 1.5
"""Difference of the first and last column of a closed panorama, as a part of that of neighbouring columns. Measured:
0.5 to 1.1, and above this in 76 of 80 photographs."""
APART = 0.7
"""The same as a part of the difference of columns half an image apart."""

_LOOKED_AT = 5
_SMALL = (256, 128)
_CONTRAST = 3.0  # of 255; columns of less say nothing


def are_panoramas(images: Path, names: Sequence[str]) -> bool:
    """Whether all images of a folder are equirectangular panoramas of the whole sphere.

    Files are opened one after the other, up to the first that is not twice as wide as high; the images of a few are
    looked at where no metadata (GPano) say what they are.
    """
    if len(names) < 2 or not all(_is_twice_as_wide(images / name) for name in names):
        return False
    picked = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, _LOOKED_AT).astype(int))]
    return all(is_panorama(images / name) for name in picked)


def _is_twice_as_wide(path: Path) -> bool:
    try:
        with open_image(path) as file:
            return abs(file.width - 2 * file.height) <= 2
    except (ImageError, OSError, ValueError, SyntaxError):
        return False


def is_panorama(path: Path) -> bool:
    """Whether a file of this shape is a closed panorama, by its metadata or what it shows; False for a damaged one."""
    try:
        with open_image(path) as file:
            told = _by_metadata(file)
            if told is not None:
                return told
            if file.format == "JPEG":
                file.draft("L", (2 * _SMALL[0], 2 * _SMALL[1]))
            grey = np.asarray(file.convert("L").resize(_SMALL, Image.Resampling.BOX), np.float64)
    except (ImageError, OSError, ValueError, SyntaxError):
        return False
    return _is_closed(grey)


def _by_metadata(file: Image.Image) -> bool | None:
    """What GPano's XMP says: a projection, and of how much of the sphere; None where it says nothing."""
    block = file.info.get("xmp") or file.info.get("XML:com.adobe.xmp") or b""
    text = block.decode("utf-8", "replace") if isinstance(block, bytes) else str(block)
    projection = re.search(r"ProjectionType[=>\s\"']+(\w+)", text)
    if projection is None:
        return None
    sides = [
        re.search(rf"{name}[=>\s\"']+(\d+)", text) for name in ("CroppedAreaImageWidthPixels", "FullPanoWidthPixels")
    ]
    whole = sides[0] is None or sides[1] is None or sides[0][1] == sides[1][1]
    return projection[1].lower() == "equirectangular" and whole


def _is_closed(grey: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Whether the edges of an image ``(H, W)`` join as its neighbouring columns do."""
    apart = np.abs(grey - np.roll(grey, grey.shape[1] // 2, axis=1)).mean()
    beside = np.abs(np.diff(grey, axis=1)).mean()
    seam = np.abs(grey[:, 0] - grey[:, -1]).mean()
    return bool(min(grey[:, 0].std(), grey[:, -1].std()) > _CONTRAST and seam < min(SEAM * beside, APART * apart))
