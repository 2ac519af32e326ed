"""Products of descriptors, block by block: the full N x M matrix never exists."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

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
