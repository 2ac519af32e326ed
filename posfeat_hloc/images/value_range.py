"""Values of more than 8 bits: how a folder of such images uses its range, and how they become 8 bits.

A 12-bit camera writes 0 to 4095 into 16-bit files; divided by 65535 they would be nearly black. The range is one for
all images of a folder, because descriptors of one place must not depend on what else is in its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
