"""Keypoints of a score map: non-maximum suppression, threshold, top-k and sub-pixel position.

As in PoSFeat, and SuperPoint's greedy suppression.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST = 128
"""The published code never takes fewer points than this."""

_STRIP = 512
"""Rows of which the maxima are found at once: indices of maxima take eight bytes a pixel."""


def find_peaks(
    scores: Tensor,
    radius: int,
    threshold: float,
    max_keypoints: int,
    reproduce_official: bool = False,
    allowed: Tensor | None = None,
) -> Tensor:
    """The highest local maxima of a score map, the outermost ring of pixels left out.

    A pixel is a local maximum when it is the highest of the (2 radius + 1)^2 pixels around it; of equal ones, the first
    in reading order. Pixels beyond the border do not count.

    With ``reproduce_official``, as the published code has it: the map without its ring is reflected at its borders, and
    a reflected copy that comes first suppresses its own pixel, so rows and columns 2 to 1 + radius // 2 near the top
    and the left hold no keypoints; and with fewer than 128 maxima other pixels are added, whatever their score (which
    ones is left open by torch there; here it is the first in reading order).

    Args:
        scores: ``(H, W)``.
        radius: of the suppression, at least 1.
        threshold: a maximum must be higher.
        max_keypoints: at most this many.
        allowed: ``(H, W)`` bool, where keypoints may lie; None for everywhere. Pixels elsewhere suppress all the same.

    Returns:
        ``(n, 2)`` int64 pixels (x, y), highest score first.
    """
    if radius < 1:
        raise ValueError(f"the radius of the suppression must be at least 1, not {radius}")
    height, width = (side - 2 for side in scores.shape)
    if height < 1 or width < 1:
        return torch.zeros((0, 2), dtype=torch.int64, device=scores.device)
    inner = scores[1:-1, 1:-1]
    if reproduce_official:
        if radius >= min(height, width):
            raise ValueError(f"a map of {width}x{height} pixels cannot be reflected over a radius of {radius}")
        padded = F.pad(inner[None, None], (radius,) * 4, mode="reflect")[0, 0]
    else:
        padded = F.pad(scores, (radius - 1,) * 4, value=-torch.inf)
    inside = torch.ones_like(inner, dtype=torch.bool) if allowed is None else allowed[1:-1, 1:-1]
    keep = (local_maxima(padded, radius) & (inner > threshold) & inside).flatten()
    flat = inner.flatten()
    index = keep.nonzero()[:, 0]
    order = flat[index].argsort(descending=True, stable=True)
    index = index[order[: max(max_keypoints, FEWEST if reproduce_official else 0)]]
    if reproduce_official and len(index) < FEWEST:
        others = (inside.flatten() & ~keep).nonzero()[:FEWEST, 0]
        index = torch.cat([index, others[: FEWEST - len(index)]])
    return torch.stack([index % width + 1, index // width + 1], dim=1)


def greedy_peaks(
    scores: Tensor, radius: int, threshold: float, border: int = 0, max_keypoints: int | None = None
) -> Tensor:
    """Pixels above a threshold that no higher one within ``radius`` on each side, itself kept, suppresses (SuperPoint).

    Pixels are visited from the highest score to the lowest, of equal ones the first in reading order; each that is
    still free is kept and takes the (2 radius + 1)^2 pixels around it.

    Args:
        scores: ``(H, W)``.
        radius: of the suppression.
        threshold: a keypoint's score must be higher.
        border: keypoints nearer than this many pixels to the border are dropped, after they have suppressed others.
        max_keypoints: at most this many; None keeps all.

    Returns:
        ``(n, 2)`` int64 pixels (x, y), highest score first.
    """
    height, width = scores.shape
    y, x = (scores > threshold).nonzero(as_tuple=True)
    order = scores[y, x].argsort(descending=True, stable=True)
    free = np.ones((height + 2 * radius, width + 2 * radius), dtype=bool)
    kept = []
    for column, row in torch.stack([x[order], y[order]], dim=1).tolist():
        if free[row + radius, column + radius]:
            free[row : row + 2 * radius + 1, column : column + 2 * radius + 1] = False
            if border <= row < height - border and border <= column < width - border:
                kept.append((column, row))
    return torch.tensor(kept[:max_keypoints], dtype=torch.int64, device=scores.device).reshape(-1, 2)


def local_maxima(padded: Tensor, radius: int) -> Tensor:
    """Where the middle of a window is its first maximum.

    Args:
        padded: ``(H + 2 radius, W + 2 radius)``.

    Returns:
        ``(H, W)`` bool.
    """
    height, width = (side - 2 * radius for side in padded.shape)
    result = torch.empty((height, width), dtype=torch.bool, device=padded.device)
    columns = torch.arange(radius, radius + width, device=padded.device)
    for top in range(0, height, _STRIP):
        rows = padded[top : top + _STRIP + 2 * radius]
        _, winner = F.max_pool2d(rows[None, None], 2 * radius + 1, stride=1, return_indices=True)
        centre = torch.arange(radius, len(rows) - radius, device=padded.device)[:, None] * padded.shape[1] + columns
        result[top : top + _STRIP] = winner[0, 0] == centre
    return result


SUBPIXEL = ("mean", "quadratic")
"""Ways from a pixel to a place between pixels: as published, or the summit of the quadratic through nine scores. The
mean of nine nearly equal scores hardly leaves the pixel."""


def refine(scores: Tensor, pixels: Tensor, subpixel: str = "mean") -> tuple[Tensor, Tensor]:
    """Sub-pixel positions: the mean of the 3x3 pixels around each, weighted with their scores, or their summit.

    Args:
        scores: ``(H, W)``, not negative.
        pixels: ``(n, 2)`` int64 (x, y), not on the outermost ring.
        subpixel: one of :data:`SUBPIXEL`.

    Returns:
        keypoints ``(n, 2)`` float32 (x, y), and the highest of the nine scores ``(n,)``.
    """
    if subpixel not in SUBPIXEL:
        raise ValueError(f"subpixel must be {' or '.join(SUBPIXEL)}, not {subpixel!r}")
    x, y = pixels[:, :1], pixels[:, 1:]
    offsets = torch.tensor([(i, j) for j in (-1, 0, 1) for i in (-1, 0, 1)], device=pixels.device)
    around = scores[y + offsets[:, 1], x + offsets[:, 0]]
    if subpixel == "quadratic":
        return refine_quadratic(scores, pixels), around.amax(dim=1)
    weights = around / around.sum(dim=1, keepdim=True).clamp_min(1e-30)  # nine zeros: the pixel itself
    shift = (weights[..., None] * offsets).sum(dim=1)  # autocast would round a matrix product to bfloat16
    return pixels + shift, around.amax(dim=1)


def refine_quadratic(values: Tensor, pixels: Tensor) -> Tensor:
    """The summit of the quadratic through the 3x3 values around each pixel.

    Args:
        values: ``(H, W)``.
        pixels: ``(n, 2)`` int64 (x, y), not on the outermost ring.

    Returns:
        ``(n, 2)`` float32 (x, y), at most half a pixel away along each axis; the pixel itself on a ridge or a plateau,
        which has no summit close by.
    """
    x, y = pixels.T

    def at(dy: int, dx: int) -> Tensor:
        return values[y + dy, x + dx].double()  # differences of nearly equal numbers follow

    centre = at(0, 0)
    gx, gy = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    xx, yy = at(0, 1) + at(0, -1) - 2 * centre, at(1, 0) + at(-1, 0) - 2 * centre
    xy = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 4
    determinant = xx * yy - xy * xy
    shift = torch.stack([xy * gy - yy * gx, xy * gx - xx * gy], dim=1) / determinant[:, None]
    close = ((shift.abs() <= 1).all(dim=1) & (determinant > 0))[:, None]
    return (pixels + torch.where(close, shift.clamp(-0.5, 0.5), torch.zeros_like(shift))).float()


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
