"""D2-Net's hard detection: every channel of a descriptor map is a detector, the strongest one at a cell decides."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EDGE_THRESHOLD = 5.0
"""Largest ratio of the two curvatures of a peak; beyond, it is an edge (Lowe)."""


class ChannelMaxima(NamedTuple):
    """Detections on a map of h x w cells.

    Attributes:
        detected: ``(h, w)`` bool.
        values: ``(h, w)`` the largest of the channels.
        displacement: ``(h, w, 2)`` (dx, dy) in cells to the summit of the quadratic through the 3x3 values around, in
            the strongest channel; meaningful where detected.
    """

    detected: Tensor
    values: Tensor
    displacement: Tensor


def channel_maxima(dense: Tensor) -> ChannelMaxima:
    """Cells that are the maximum across channels, a 3x3 local maximum in that channel, and no edge there.

    Values beyond the border count as zero, as in the authors' code. Of channels that tie the first one counts. Memory
    does not grow with the number of channels.

    Args:
        dense: ``(D, h, w)``, not negative.
    """
    values, channel = dense.max(dim=0)
    height, width = values.shape
    y = torch.arange(height, device=dense.device)[:, None]
    x = torch.arange(width, device=dense.device)

    def at(dy: int, dx: int) -> Tensor:
        rows, columns = y + dy, x + dx
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return dense[channel, rows.clamp(0, height - 1), columns.clamp(0, width - 1)] * inside

    around = {(dy, dx): at(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    is_peak = values >= torch.stack(list(around.values())).amax(dim=0)
    gy, gx = (around[1, 0] - around[-1, 0]) / 2, (around[0, 1] - around[0, -1]) / 2
    yy = around[1, 0] + around[-1, 0] - 2 * values
    xx = around[0, 1] + around[0, -1] - 2 * values
    xy = (around[1, 1] + around[-1, -1] - around[1, -1] - around[-1, 1]) / 4
    determinant = yy * xx - xy * xy
    ratio = (EDGE_THRESHOLD + 1) ** 2 / EDGE_THRESHOLD
    is_corner = (determinant > 0) & ((yy + xx) ** 2 <= ratio * determinant)
    displacement = torch.stack([xy * gy - yy * gx, xy * gx - xx * gy], dim=-1) / determinant[..., None]
    return ChannelMaxima(is_peak & is_corner, values, displacement)
