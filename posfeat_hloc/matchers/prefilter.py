"""Exact nearest neighbours at the price of half-precision products.

Products in bf16 cost a fraction of those in float32, but their errors exchange near neighbours. Here they only screen:
they give upper bounds for groups of 64 products, and a group is computed again in float32 where the bound leaves open
whether it holds a nearest neighbour, or a second one. Neighbours that float32 cannot tell apart are compared in
float64.

The bound. Let a' be a rounded to bf16. Then |<a, b> - <a', b'>| <= |a - a'| |b| + |a'| |b - b'| (Cauchy-Schwarz), with
norms computed from the very descriptors; for unit vectors about 0.002. Rounding the product itself to bf16 is monotone,
so thresholds are rounded downwards instead. Nothing is assumed of the norms of descriptors.

Tiles of products stay in the cache of a core and are read as 16-bit integers: bf16 numbers that are not negative have
the order of their bit patterns, and integer maxima are eight times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

GROUP = 64
"""Products that share one bound; few make many bounds, many make more to compute again."""

_TILE = {"cpu": (512, 1024)}  # 1 MB of bf16: the L2 cache of a core
_LARGE_TILE = (8192, 8192)
_OPEN_GROUPS = 16  # a descriptor; beyond, the whole matrix in float32 costs less
_LOWEST = -32768


@dataclass
class Nearest:
    """Nearest neighbours of ``(N,)`` descriptors: cosine, index, and the second highest cosine if requested."""

    best: Tensor
    index: Tensor
    second: Tensor


class _Side:
    """The descriptors of one image as the products want them."""

    def __init__(self, descriptors: Tensor) -> None:
        count = len(descriptors)
        self.count = count
        self.exact = pad(descriptors, (0, 0, 0, -count % GROUP))  # (N', D) float32
        self.half = self.exact.bfloat16()
        rounded = self.half.float()
        self.norm = torch.linalg.vector_norm(self.exact[:count], dim=1)
        self.rounded_norm = torch.linalg.vector_norm(rounded[:count], dim=1)
        self.error = torch.linalg.vector_norm(rounded.sub_(self.exact)[:count], dim=1)


def nearest(descriptors0: Tensor, descriptors1: Tensor, second0: bool, second1: bool) -> tuple[Nearest, Nearest] | None:
    """Nearest neighbours of ``(N, D)`` float32 descriptors among ``(M, D)``, and the other way round.

    Indices are those of float64 arithmetic, equal products go to the lower index; products are float32's. None where
    the bounds leave too much open, as among many descriptors that are nearly equal, and where numbers are not finite.

    Args:
        second0, second1: whether the second highest products are asked for, seen from either image.
    """
    side0, side1 = _Side(descriptors0), _Side(descriptors1)
    if not (side0.norm.sum() * side1.norm.sum()).isfinite():
        return None
    bounds0, bounds1 = _group_bounds(side0.half, side1.half)
    found0 = _resolve(side0, side1, bounds0, second0)
    found1 = _resolve(side1, side0, bounds1, second1) if found0 is not None else None
    return None if found0 is None or found1 is None else (found0, found1)


def _group_bounds(half0: Tensor, half1: Tensor) -> tuple[Tensor, Tensor]:
    """Highest products of each descriptor with each group of the other image, as bits of bf16.

    Returns:
        ``(M' / 64, N')`` and ``(N' / 64, M')`` int16; what is negative stands for any product up to 0.
    """
    n, m = len(half0), len(half1)
    rows, columns = _TILE.get(half0.device.type, _LARGE_TILE)
    bounds0 = torch.empty((m // GROUP, n), dtype=torch.int16, device=half0.device)
    bounds1 = torch.empty((n // GROUP, m), dtype=torch.int16, device=half0.device)
    buffer = half0.new_empty(min(rows, n) * min(columns, m))
    for top, left in ((top, left) for top in range(0, n, rows) for left in range(0, m, columns)):
        part0, part1 = half0[top : top + rows], half1[left : left + columns]
        height, width = len(part0), len(part1)
        tile = buffer[: height * width].view(height, width)
        bits = torch.mm(part0, part1.T, out=tile).view(torch.int16)
        groups0, groups1 = slice(left // GROUP, (left + width) // GROUP), slice(top // GROUP, (top + height) // GROUP)
        bounds0[groups0, top : top + height] = bits.view(height, -1, GROUP).amax(dim=2).T
        bounds1[groups1, left : left + width] = bits.view(-1, GROUP, width).amax(dim=1)
    return bounds0, bounds1


def _resolve(side: _Side, other: _Side, bounds: Tensor, with_second: bool) -> Nearest | None:
    """Exact neighbours of one image, from the groups of the other one that may hold them."""
    bounds = bounds[:, : side.count]
    group, item = (bounds >= _thresholds(side, other, bounds, with_second)).nonzero(as_tuple=True)
    if len(item) > _OPEN_GROUPS * side.count:
        return None
    products = _products(side, other, group, item)
    low = products.new_full((side.count,), -torch.inf)
    best = low.scatter_reduce(0, item, products.amax(dim=1), "amax")
    # float32 products of the same two descriptors may differ from place to place by this much
    margin = 2 * _float32_error(side, other)
    entry, member = (products >= (best - margin)[item, None]).nonzero(as_tuple=True)
    this, that = item[entry], group[entry] * GROUP + member
    index = _highest(side, other, this, that)
    second = low
    if with_second:
        taken = that == index[this]
        products[entry[taken], member[taken]] = -torch.inf
        second = low.scatter_reduce(0, item, products.amax(dim=1), "amax")
    return Nearest(best, index, second)


def _thresholds(side: _Side, other: _Side, bounds: Tensor, with_second: bool) -> Tensor:
    """``(N,)`` int16: groups whose bound is lower hold no nearest neighbour (no second one)."""
    if with_second and len(bounds) > 1:
        # the second highest but for one case in eight, where it is lower; topk over all groups costs several times more
        parts = torch.stack([part.amax(dim=0) for part in bounds.tensor_split(min(8, len(bounds)))])
        known = parts.topk(2, dim=0).values[1]
    elif with_second:
        known = torch.full_like(bounds[0], _LOWEST)
    else:
        known = bounds.amax(dim=0)
    product = (known.int() << 16).view(torch.float32)
    error = side.error * other.norm.max() + side.rounded_norm * other.error.max() + _float32_error(side, other)
    lowest = product * (1 - 2**-8) - 2 * error  # the product was rounded by up to 2^-9 of itself
    return torch.where(lowest > 0, lowest.view(torch.int32) >> 16, _LOWEST).to(torch.int16)


def _float32_error(side: _Side, other: _Side) -> Tensor:
    """``(N,)`` bound for the rounding of a sum of D products in float32, in any order of summation."""
    return side.norm * other.norm.max() * (side.exact.shape[1] + 2) * 2.0**-23


def _products(side: _Side, other: _Side, group: Tensor, item: Tensor) -> Tensor:
    """``(P, 64)`` float32 products of descriptors with all members of groups, which come in ascending order."""
    rows = side.exact.index_select(0, item)
    result = rows.new_empty((len(item), GROUP))
    for index, here in _runs(group, len(other.exact) // GROUP):
        torch.mm(rows[here], other.exact[index * GROUP : (index + 1) * GROUP].T, out=result[here])
        if (index + 1) * GROUP > other.count:
            result[here, other.count - index * GROUP :] = -torch.inf
    return result


def _runs(group: Tensor, groups: int) -> Iterator[tuple[int, slice]]:
    start = 0
    for index, count in enumerate(torch.bincount(group, minlength=groups).tolist()):
        if count:
            yield index, slice(start, start + count)
        start += count


def _highest(side: _Side, other: _Side, this: Tensor, that: Tensor) -> Tensor:
    """``(N,)`` the neighbour of each descriptor among candidate pairs, compared in float64; the first of equal ones."""
    index = torch.zeros(side.count, dtype=torch.int64, device=this.device)
    index[this] = that
    contested = torch.bincount(this, minlength=side.count) > 1
    among = contested[this].nonzero().squeeze(1)
    if len(among):
        this, that = this[among], that[among]
        products = (side.exact[this].double() * other.exact[that].double()).sum(dim=1)
        best = products.new_full((side.count,), -torch.inf).scatter_reduce(0, this, products, "amax")
        first = products == best[this]
        index[contested] = len(other.exact)
        index.scatter_reduce_(0, this[first], that[first], "amin")
    return index
