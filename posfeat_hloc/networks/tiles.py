"""Maps that are computed tile by tile of rows, each with the rows around it that its result depends on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Compute = Callable[[int, int], Tensor]
"""Rows [low, high) of the input -> the rows of the output that lie there; wrong at a cut, right elsewhere."""

EPS = 1e-5
"""Of instance normalisation."""


def in_tiles(compute: Compute, height: int, rows: int, halo: int, step: int = 1) -> Tensor:
    """A map of ``height`` rows, computed ``rows`` at a time.

    Args:
        compute: see :data:`Compute`.
        halo: rows of the input, above and below, that a row of the output depends on; a multiple of ``step``.
        step: rows of the input for one of the output.
    """
    result: Tensor | None = None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = strip_of(compute, height, top, bottom, halo, step)
        if result is None:
            if bottom == height:
                return piece
            result = piece.new_empty((*piece.shape[:2], height, piece.shape[3]))
        result[:, :, top:bottom] = piece
    assert result is not None
    return result


def moments(compute: Compute, height: int, rows: int, halo: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel of a map that is computed in tiles, ``(1, C, 1, 1)`` float32.

    Strips are merged in float64 (Chan, Golub and LeVeque).
    """
    count = 0
    mean = squares = torch.zeros(())
    for top in range(0, height, rows):
        piece = strip_of(compute, height, top, min(top + rows, height), halo, 1).float()
        n = piece[0, 0].numel()
        part_var, part_mean = (m.double() for m in torch.var_mean(piece, dim=(2, 3), correction=0, keepdim=True))
        if count == 0:
            mean, squares = part_mean, part_var * n
        else:
            difference = part_mean - mean
            squares = squares + part_var * n + difference**2 * (count * n / (count + n))
            mean = mean + difference * (n / (count + n))
        count += n
    return mean.float(), (squares / count + EPS).rsqrt().float()


def rows_within(memory: int, width: int, values: int) -> int:
    """Rows of a tile that needs ``values`` float32 a cell at its fullest."""
    return max(8, memory // (4 * width * values))


def strip_of(compute: Compute, height: int, top: int, bottom: int, halo: int, step: int) -> Tensor:
    """Rows [top, bottom) of the output; see :func:`in_tiles`."""
    low, high = max(top * step - halo, 0), min(bottom * step + halo, height * step)
    return compute(low, high)[:, :, top - low // step :][:, :, : bottom - top]
