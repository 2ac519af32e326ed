"""Nearest neighbours with mutual check, ratio test and distance limit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.matchers.similarity import similarity_blocks


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


class Matcher:
    """Exact nearest neighbours; ties go to the lower index. Scores are (1 + cos) / 2, as hloc's."""

    def __init__(self, options: Options) -> None:
        if options.ratio_sides not in ("one", "both"):
            raise ConfigurationError(f"ratio_sides must be 'one' or 'both', not {options.ratio_sides!r}")
        if options.ratio is not None and not 0 < options.ratio <= 1:
            raise ConfigurationError(f"ratio must be in (0, 1], not {options.ratio}")
        self.options = options

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor]:
        """Match ``(B, N, D)`` to ``(B, M, D)``; see :class:`posfeat_hloc.matchers.Matcher`."""
        opt = self.options
        both = opt.ratio is not None and opt.ratio_sides == "both"
        index, rows, columns = _two_nearest(descriptors0, descriptors1, opt.ratio is not None, both)
        keep = torch.ones_like(index, dtype=torch.bool)
        if opt.mutual:
            keep &= _is_mutual(index, rows, columns)
        if opt.ratio is not None:
            keep &= _passes_ratio(rows, opt.ratio)
            if both:
                keep &= _passes_ratio(columns, opt.ratio).gather(1, index)
        if opt.max_distance is not None:
            keep &= 2 - 2 * rows.best <= opt.max_distance**2
        return torch.where(keep, index, -1), torch.where(keep, (rows.best + 1) / 2, 0)


@dataclass
class _Nearest:
    """The highest and second highest cosine of each descriptor, ``(B, N)``."""

    best: Tensor
    second: Tensor


def _two_nearest(
    descriptors0: Tensor, descriptors1: Tensor, row_second: bool, column_second: bool
) -> tuple[Tensor, _Nearest, _Nearest]:
    """Nearest neighbours along both axes of the similarity matrix in one pass over its blocks.

    Returns:
        ``(B, N)`` index of the nearest neighbour of each row, and the highest cosines of rows and of columns; the
        second ones only where asked for.
    """
    batch, n, m = len(descriptors0), descriptors0.shape[1], descriptors1.shape[1]
    low = descriptors0.new_full((batch, 1), -2.0)
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
    return index, rows, columns


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
    """Maximum along ``dim`` with one entry a row (or column) left out; -2 when nothing is left.

    Two passes of ``max`` are several times faster on a CPU than one ``topk``.
    """
    index = index.unsqueeze(dim)
    kept = block.gather(dim, index)
    block.scatter_(dim, index, -2.0)
    result = block.amax(dim=dim)
    block.scatter_(dim, index, kept)
    return result


def _passes_ratio(nearest: _Nearest, ratio: float) -> Tensor:
    """d1 <= ratio * d2 on squared distances; a single candidate passes, one of two duplicates does not.

    Squared distances below 1e-6 are rounding of float32, positive or negative, and count as equal.
    """
    first, second = (2 - 2 * nearest.best).clamp_min(1e-6), (2 - 2 * nearest.second).clamp_min(1e-6)
    return (first <= ratio**2 * second) | (nearest.second < -1.5)
