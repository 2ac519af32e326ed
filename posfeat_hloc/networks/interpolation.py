"""Bilinear interpolation of maps: reading them between their cells, and 3x3 convolutions of upsampled maps.

Upsampling and convolution are linear. Every cell of the map is multiplied once with the nine taps of the kernel, at the
map's own resolution, and the products are interpolated: a sixteenth of the multiplications where a map is upsampled
four times. The interpolation is a product with a small matrix along each axis; what lies beyond the border of the
upsampled map counts as zero, as the padding of a convolution does. Nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.inference import as_given


def interpolate_cells(dense: Tensor, cells: Tensor) -> Tensor:
    """Values of one map at map coordinates, bilinearly; beyond its border, those of its outermost cells.

    Args:
        dense: ``(D, h, w)``.
        cells: ``(N, 2)`` (x, y); cell i lies at i.

    Returns:
        ``(N, D)``, not normalised.
    """
    height, width = dense.shape[-2:]
    scale = 2 / torch.tensor([max(width - 1, 1), max(height - 1, 1)]).to(dense)
    grid = (cells * scale - 1)[None, None]
    return F.grid_sample(dense[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0, :, 0].T


TILE = (16, 32)
"""Rows and columns that are interpolated at once: their products stay in a CPU's cache."""


class UpsampledConvolution:
    """The 3x3 convolution, padded by zeros and without bias, of a map that is stretched first.

    Args:
        x: ``(1, I, h, w)``.
        weight: ``(O, I, 3, 3)``.
        size: (height, width) that ``x`` is stretched to.
        align_corners: as of ``F.interpolate``.
    """

    def __init__(self, x: Tensor, weight: Tensor, size: tuple[int, int], align_corners: bool) -> None:
        self._x, self._weight = x, weight.to(x.dtype)
        self._size, self._align_corners = size, align_corners
        if not x.is_cuda:
            self._taps = self._weight.permute(2, 1, 3, 0).flatten(2)  # (3, I, 3 O), a row of the kernel each

    def rows(self, low: int, high: int, bias: Tensor) -> Tensor:
        """Rows [low, high), ``(1, O, high - low, width)`` of the type of ``x``; on a CPU channels last."""
        if self._x.is_cuda:  # one large convolution takes less time than starting many small products
            above, below = max(low - 1, 0), min(high + 1, self._size[0])
            around = upsampled_rows(self._x, above, below, self._size, self._align_corners)
            with as_given(self._x.device):
                result = F.conv2d(around, self._weight, bias.to(self._x.dtype), padding=1)
            return result[:, :, low - above :][:, :, : high - low]
        products = self.products(low, high)
        result = self._x.new_empty((high - low, self._size[1], len(self._weight)))
        for rows, columns in products.tiles():
            result[rows.start - low : rows.stop - low, columns] = products.add_to(bias.float(), rows, columns)
        return result.permute(2, 0, 1)[None]

    def products(self, low: int, high: int) -> Products:
        """What rows [low, high) are interpolated from."""
        vertical = _Axis(self._x.shape[2], self._size[0], self._align_corners)
        horizontal = _Axis(self._x.shape[3], self._size[1], self._align_corners)
        first, last = vertical.cells(low, high)
        cells = self._x[0, :, first:last].permute(1, 2, 0)
        with as_given(self._x.device):
            products = [cells.flatten(0, 1) @ taps for taps in self._taps]
        return Products(
            [p.float().view(*cells.shape[:2], -1) for p in products], first, vertical, horizontal, low, high
        )


@dataclass(frozen=True)
class Products:
    """A tile of cells times all taps.

    Attributes:
        values: for each row of the kernel ``(cells, w, 3 O)`` float32.
        first: row of cells that they begin with.
        vertical, horizontal: how they are interpolated.
        low, high: rows of the stretched map that can be computed from them.
    """

    values: list[Tensor]
    first: int
    vertical: _Axis
    horizontal: _Axis
    low: int
    high: int

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns that cover what can be computed."""
        width = self.horizontal.places
        for top in range(self.low, self.high, TILE[0]):
            for left in range(0, width, TILE[1]):
                yield slice(top, min(top + TILE[0], self.high)), slice(left, min(left + TILE[1], width))

    def add_to(self, start: Tensor, rows: slice, columns: slice) -> Tensor:
        """Add the convolution at some pixels to ``start`` ``(rows, columns, O)`` float32, or to ``(O,)`` of all."""
        top, bottom = self.vertical.cells(rows.start, rows.stop)
        left, right = self.horizontal.cells(columns.start, columns.stop)
        down = self.vertical.taps(rows.start, rows.stop).to(start)
        across = self.horizontal.taps(columns.start, columns.stop).to(start).flatten(1)
        near = [p[top - self.first : bottom - self.first, left:right].flatten(1) for p in self.values]
        with as_given(start.device):
            between = down[..., 0] @ near[0]
            for tap in (1, 2):
                between.addmm_(down[..., tap], near[tap])
            between = between.view(len(down), across.shape[1], -1)
            return torch.baddbmm(start, across.expand(len(between), -1, -1), between)


def upsampled_rows(x: Tensor, low: int, high: int, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Rows [low, high) of the map ``x`` ``(1, C, h, w)`` stretched bilinearly to ``size`` (height, width)."""
    h, (height, width) = x.shape[2], size
    target = torch.arange(low, high, device=x.device, dtype=torch.float64)
    if align_corners:
        source = target * ((h - 1) / max(height - 1, 1))
    else:
        source = ((target + 0.5) * (h / height) - 0.5).clamp_min(0)
    above = source.long().clamp_max(h - 1)
    below = (above + 1).clamp_max(h - 1)
    weight = (source - above).to(x.dtype)[:, None]
    between = torch.lerp(x[:, :, above], x[:, :, below], weight)
    return F.interpolate(between, size=(high - low, width), mode="bilinear", align_corners=align_corners)


@dataclass(frozen=True)
class _Axis:
    """How three taps around each place of a stretched axis are interpolated from its cells."""

    size: int
    places: int
    align_corners: bool

    def cells(self, low: int, high: int) -> tuple[int, int]:
        """The first cell that places [low, high) depend on, and the one after the last."""
        first, _, last, _ = _neighbours(self.size, self.places, self.align_corners)
        return first[max(low - 1, 0)], last[min(high, self.places - 1)] + 1

    def taps(self, low: int, high: int) -> Tensor:
        """``(high - low, cells, 3)``: the weight of each product of a cell, of those of :meth:`cells`, with a tap."""
        return _taps(self.size, self.places, self.align_corners, low, high, *self.cells(low, high))


@lru_cache(maxsize=32)
def _neighbours(cells: int, places: int, align_corners: bool) -> tuple[list[int], list[float], list[int], list[float]]:
    """The two cells around each place, and their weights."""
    first, first_weight, last, last_weight = [], [], [], []
    for place in range(places):
        if align_corners:
            at = place * (cells - 1) / max(places - 1, 1)
        else:
            at = max((place + 0.5) * cells / places - 0.5, 0.0)
        before = min(int(at), cells - 1)
        first.append(before)
        last.append(min(before + 1, cells - 1))
        last_weight.append(at - before)
        first_weight.append(1 - (at - before))
    return first, first_weight, last, last_weight


@lru_cache(maxsize=4096)
def _taps(cells: int, places: int, align_corners: bool, low: int, high: int, start: int, stop: int) -> Tensor:
    first, first_weight, last, last_weight = _neighbours(cells, places, align_corners)
    weights = torch.zeros(high - low, stop - start, 3, device="cpu")
    for place in range(low, high):
        for tap in range(3):
            there = place + tap - 1
            if 0 <= there < places:
                weights[place - low, first[there] - start, tap] += first_weight[there]
                weights[place - low, last[there] - start, tap] += last_weight[there]
    return weights
