"""Image files with more than 8 bits a value: which they are, which range a folder of them uses, how they become 8 bits.

A 12-bit camera writes 0 to 4095 into 16-bit files; divided by 65535 they would be nearly black. The range is one for
all images of a folder, because descriptors of one place must not depend on what else is in its image.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images.formats import kind_of_bytes, open_image

BITS = (8, 10, 12, 14, 16)
"""Depths of cameras."""
NARROW = 0.2
"""Part of the range that images must use; where they use less (thermal cameras), their own values are the range."""


@dataclass(frozen=True)
class ValueRange:
    """Values that become 0 and 255."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.low == 0 and self.high in {2.0**bits - 1 for bits in BITS}:
            return f"{int(self.high).bit_length()}-bit values"
        return f"values from {self.low:.6g} to {self.high:.6g}"

    def to_8_bit(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """``(H, W)`` or ``(H, W, C)`` values as uint8; NaN becomes 0, infinities become 0 and 255."""
        scaled = (values.astype(np.float64) - self.low) / max(self.high - self.low, np.finfo(np.float64).tiny) * 255
        return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0) + 0.5, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Usage:
    """Which values images hold.

    Attributes:
        integer: whether they are whole numbers.
        highest: of all finite values.
        low, high: 0.1 % are below and above.
    """

    integer: bool
    highest: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Usage:
        """Of ``(H, W)`` or ``(H, W, C)`` values."""
        integer = bool(np.issubdtype(values.dtype, np.integer))
        finite = values if integer else values[np.isfinite(values)]
        if finite.size == 0:
            return cls(integer, 0.0, 0.0, 0.0)
        low, high = np.percentile(values[::4, ::4] if integer and values.size > 4096 else finite, (0.1, 99.9))
        return cls(integer, float(finite.max()), float(low), float(high))

    def joined(self, other: Usage) -> Usage:
        """Of both."""
        integer, highest = self.integer and other.integer, max(self.highest, other.highest)
        return Usage(integer, highest, min(self.low, other.low), max(self.high, other.high))

    def range(self) -> ValueRange:
        """The depth that holds all values, or where they use little of it, what 99.8 % of them use."""
        if self.integer and self.highest <= 65535:
            top = float(next(2**bits - 1 for bits in BITS if self.highest < 2**bits))
        elif self.highest <= 1 and not self.integer:
            top = 1.0
        else:
            top = self.high if self.high > 0 else self.highest
        if self.high - self.low < NARROW * top and self.high > self.low:
            return ValueRange(self.low, self.high)
        return ValueRange(min(0.0, self.low), top)

    @property
    def is_full(self) -> bool:
        """Whether further images change nothing: 16 bits that are used."""
        return self.integer and 2**14 <= self.highest <= 65535 and self.high - self.low >= NARROW * 65535


_BITS_PER_SAMPLE = 258
_AT_A_TIME = 8


def is_deep(path: Path) -> bool:
    """Whether a file holds more than 8 bits that are to be scaled here; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    kind = kind_of_bytes(head)
    if kind == "PNG":
        return head[24:25] == b"\x10"
    if kind == "PPM":
        return head[1:2] in b"Ff" or (head[1:2] in b"2356" and _highest_of_ppm(head) > 255)
    if kind != "TIFF":
        return False
    try:
        with open_image(path) as picture:
            bits = getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, (1,))
            return picture.mode[:1] in "IF" or max(bits) > 8
    except PIL.UnidentifiedImageError:
        return True  # colors in floating point, which OpenCV reads
    except Exception:  # damaged, which reading will say
        return False


def _highest_of_ppm(head: bytes) -> int:
    """The fourth word of a header, after comments."""
    words = [word for line in head.split(b"\n") for word in line.split(b"#")[0].split()]
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255


def read_deep(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values of a file that :func:`is_deep`, ``(H, W)`` or ``(H, W, 3)`` RGB, and where it is opaque, ``(H, W)``.

    The sides of a TIFF file are those of the upright image, others as they are stored.

    Raises:
        ImageError: it cannot be decoded.
    """
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # Pillow keeps 8 bits of colors
    if values is None or values.dtype == np.uint8:
        with open_image(path) as file:
            values = np.asarray(file)
        return (values[..., :3] if values.ndim == 3 else values), None
    if values.ndim == 2:
        return np.asarray(values), None
    opaque = None
    if values.shape[2] == 4:
        alpha = values[..., 3]
        opaque = alpha >= alpha.max() / 2 if alpha.max() > 0 else np.zeros(alpha.shape, bool)
    return np.ascontiguousarray(values[..., 2::-1]), opaque


def ranges_of(folder: Path, names: Iterable[str]) -> dict[str, ValueRange]:
    """The range of values for those images of a folder that have more than 8 bits, the same for all of a kind.

    Only such files are decoded, and no more of them than it takes to see that 16 bits are in use.
    """
    deep = [name for name in names if is_deep(folder / name)]
    used: dict[bool, Usage] = {}
    kinds: dict[str, bool] = {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(deep), _AT_A_TIME):
            batch = deep[start : start + _AT_A_TIME]
            for name, usage in zip(batch, pool.map(_usage, [folder / name for name in batch]), strict=True):
                if usage is not None:
                    kinds[name] = usage.integer
                    before = used.get(usage.integer)
                    used[usage.integer] = usage if before is None else before.joined(usage)
            if set(used) == {True} and used[True].is_full:
                break
    found = {kind: usage.range() for kind, usage in used.items()}
    return {name: found[kinds.get(name, True)] for name in deep if kinds.get(name, True) in found}


def _usage(path: Path) -> Usage | None:
    try:
        return Usage.of(read_deep(path)[0])
    except (OSError, ImageError, cv2.error, ValueError):
        return None
