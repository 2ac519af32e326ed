"""Reading dense maps between their cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
