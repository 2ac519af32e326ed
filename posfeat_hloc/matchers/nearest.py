"""Products of descriptors, block by block: the full N x M matrix never exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.matchers import prefilter
from posfeat_hloc.networks.inference import has_fast_bf16

BLOCK = 512
"""Rows of the similarity matrix computed at once; 512 x 8192 float32 are 16 MB, which a CPU cache can hold."""


def similarity_blocks(descriptors0: Tensor, descriptors1: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, ``(B, rows, M)`` cosines) of ``(B, N, D)`` and ``(B, M, D)``, top to bottom.

    The yielded tensor is reused for the next block.
    """
    transposed = descriptors1.transpose(1, 2)
    batch, columns = descriptors1.shape[:2]
    buffer = descriptors0.new_empty((batch, min(BLOCK, descriptors0.shape[1]), columns))
    for start in range(0, descriptors0.shape[1], BLOCK):
        rows = descriptors0[:, start : start + BLOCK]
        out = buffer if rows.shape[1] == buffer.shape[1] else buffer[:, : rows.shape[1]].contiguous()
        yield start, torch.bmm(rows, transposed, out=out)


def keep_mutual(indices0: Tensor, indices1: Tensor) -> Tensor:
    """Set to -1 each match of ``(B, N)`` ``indices0`` that ``(B, M)`` ``indices1`` does not return."""
    back = torch.gather(indices1, 1, indices0.clamp_min(0))
    here = torch.arange(indices0.shape[1], device=indices0.device)
    return torch.where((indices0 >= 0) & (back == here), indices0, -1)


SCREENED_PRODUCTS = 1 << 20
"""``auto`` screens pairs with at least this many products: 1024 x 1024."""


@dataclass(frozen=True)
class Options:
    """Options of nearest-neighbour matching on Euclidean distances sqrt(2 - 2 cos)."""

    mutual: bool = True
    """Keep a match only when each is the other's nearest neighbour."""
    ratio: float | None = None
    """Keep a match only when its distance is at most ``ratio`` times that of the second neighbour."""
    ratio_sides: str = "one"
    """``one``: the test looks from image 0 only (Lowe); ``both``: also from image 1 (PoSFeat on ETH, and what hloc's
    NN-ratio computes: it tests both directions before its mutual check)."""
    max_distance: float | None = None
    """Keep a match only when its distance is at most this."""
    precision: str = "auto"
    """``fp32``: all products in float32. ``bf16``: half-precision products choose those that are computed in float32,
    with the same matches (:mod:`posfeat_hloc.matchers.prefilter`). ``auto``: the latter for large images on a CPU with
    bf16."""


class Matcher:
    """Exact nearest neighbours; ties go to the lower index. Scores are (1 + cos) / 2, as hloc's."""

    def __init__(self, options: Options) -> None:
        if options.ratio_sides not in ("one", "both"):
            raise ConfigurationError(f"ratio_sides must be 'one' or 'both', not {options.ratio_sides!r}")
        if options.ratio is not None and not 0 < options.ratio <= 1:
            raise ConfigurationError(f"ratio must be in (0, 1], not {options.ratio}")
        if options.precision not in ("auto", "bf16", "fp32"):
            raise ConfigurationError(f"precision must be auto, bf16 or fp32, not {options.precision!r}")
        self.options = options

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor]:
        """Match ``(B, N, D)`` to ``(B, M, D)``; see :class:`posfeat_hloc.matchers.Matcher`."""
        opt = self.options
        both = opt.ratio is not None and opt.ratio_sides == "both"
        find = _find_screened if self._screens(descriptors0, descriptors1) else _find
        found = find(descriptors0, descriptors1, opt.ratio is not None, both)
        keep = found.mutual if opt.mutual else torch.ones_like(found.mutual)
        if opt.ratio is not None:
            keep = keep & _passes_ratio(found.rows, opt.ratio)
            if both:
                keep = keep & _passes_ratio(found.columns, opt.ratio).gather(1, found.index)
        best = found.rows.best
        if opt.max_distance is not None:
            keep = keep & (2 - 2 * best <= opt.max_distance**2)
        return torch.where(keep, found.index, -1), torch.where(keep, (best + 1) / 2, 0)

    def _screens(self, descriptors0: Tensor, descriptors1: Tensor) -> bool:
        if self.options.precision != "auto":
            return self.options.precision == "bf16"
        large = descriptors0.shape[1] * descriptors1.shape[1] >= SCREENED_PRODUCTS
        return large and descriptors0.device.type == "cpu" and has_fast_bf16(descriptors0.device)


@dataclass
class _Nearest:
    """The highest and, where asked for, second highest cosine of each descriptor, ``(B, N)``."""

    best: Tensor
    second: Tensor


@dataclass
class _Found:
    """The nearest neighbour of each row of the similarity matrix, ``(B, N)``, and whether each is the other's."""

    index: Tensor
    mutual: Tensor
    rows: _Nearest
    columns: _Nearest


def _find_screened(descriptors0: Tensor, descriptors1: Tensor, row_second: bool, column_second: bool) -> _Found:
    """As :func:`_find`, from half-precision products where these suffice."""
    parts = []
    for one, two in zip(descriptors0.split(1), descriptors1.split(1), strict=True):
        nearest = prefilter.nearest(one[0], two[0], row_second, column_second)
        if nearest is None:
            parts.append(_find(one, two, row_second, column_second))
            continue
        rows, columns = nearest
        mutual = columns.index[rows.index] == torch.arange(len(rows.index), device=rows.index.device)
        highest = (_Nearest(side.best[None], side.second[None]) for side in nearest)
        parts.append(_Found(rows.index[None], mutual[None], *highest))
    return _Found(
        torch.cat([part.index for part in parts]),
        torch.cat([part.mutual for part in parts]),
        *(
            _Nearest(torch.cat([side.best for side in sides]), torch.cat([side.second for side in sides]))
            for sides in ([part.rows for part in parts], [part.columns for part in parts])
        ),
    )


def _find(descriptors0: Tensor, descriptors1: Tensor, row_second: bool, column_second: bool) -> _Found:
    """Nearest neighbours along both axes of the similarity matrix in one pass over its blocks, in float32."""
    batch, n, m = len(descriptors0), descriptors0.shape[1], descriptors1.shape[1]
    low = descriptors0.new_full((batch, 1), -torch.inf)
    index = torch.zeros((batch, n), dtype=torch.int64, device=low.device)
    rows, columns = _Nearest(low.repeat(1, n), low.repeat(1, n)), _Nearest(low.repeat(1, m), low.repeat(1, m))
    for start, block in similarity_blocks(descriptors0, descriptors1):
        here = slice(start, start + block.shape[1])
        rows.best[:, here], index[:, here] = block.max(dim=2)
        if row_second:
            rows.second[:, here] = _max_without(block, index[:, here], dim=2)
        if column_second:
            column_best, column_index = block.max(dim=1)
            block_second = _max_without(block, column_index, dim=1)
            # of the four candidates seen so far, the second largest
            columns.second = torch.maximum(
                torch.minimum(columns.best, column_best), torch.maximum(columns.second, block_second)
            )
        else:
            column_best = block.amax(dim=1)  # six times faster than max, which also finds indices
        columns.best = torch.maximum(columns.best, column_best)
    return _Found(index, _is_mutual(index, rows, columns), rows, columns)


def _is_mutual(index: Tensor, rows: _Nearest, columns: _Nearest) -> Tensor:
    """Which rows are the nearest neighbours of their nearest neighbours, ``(B, N)``.

    A row is, when its cosine is the highest of the column; of rows with equal cosines the first counts.
    """
    nearest = rows.best >= columns.best.gather(1, index)
    count = index.shape[1]
    here = torch.arange(count, device=index.device).expand_as(index)
    first = torch.full_like(columns.best, count, dtype=torch.int64)
    first.scatter_reduce_(1, index, torch.where(nearest, here, count), reduce="amin")
    return nearest & (first.gather(1, index) == here)


def _max_without(block: Tensor, index: Tensor, dim: int) -> Tensor:
    """Maximum along ``dim`` with one entry a row (or column) left out; -inf when nothing is left.

    Two passes of ``max`` are several times faster on a CPU than one ``topk``.
    """
    index = index.unsqueeze(dim)
    kept = block.gather(dim, index)
    block.scatter_(dim, index, -torch.inf)
    result = block.amax(dim=dim)
    block.scatter_(dim, index, kept)
    return result


def _passes_ratio(nearest: _Nearest, ratio: float) -> Tensor:
    """d1 <= ratio * d2 on squared distances; a single candidate passes, one of two duplicates does not.

    Squared distances below 1e-6 are rounding of float32, positive or negative, and count as equal.
    """
    first, second = (2 - 2 * nearest.best).clamp_min(1e-6), (2 - 2 * nearest.second).clamp_min(1e-6)
    return (first <= ratio**2 * second) | torch.isneginf(nearest.second)
