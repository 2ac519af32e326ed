"""Where exactly: peaks of the determinant of the Hessian, to a fraction of a pixel.

A dense descriptor says which places are worth matching, but its map has one cell for 4 x 4 pixels and changes slowly.
Blobs and corners of the image itself lie at maxima of the determinant of its Hessian, which a quadratic through the
nine values around a maximum places below the pixel. Saddles, where the determinant is negative, repeat less well.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.peaks import refine_quadratic

_ROUNDING = 1e-8
"""Smaller responses are float32 rounding: a blob of a tenth of a grey level of 255 gives about this much."""


def hessian_determinant(images: Tensor, sigma: float = 2.0) -> Tensor:
    """Positive part of the determinant of the Hessian of a Gaussian-smoothed image, scale-normalised.

    Args:
        images: ``(B, 1, H, W)`` grey. Borders are repeated.
        sigma: of the Gaussian in pixels.

    Returns:
        ``(B, H, W)`` float32: sigma^4 max(0, I_xx I_yy - I_xy^2), high on blobs and corners, zero on straight edges.
    """
    radius = max(1, round(4 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
    smooth = torch.exp(-x * x / (2 * sigma**2))
    smooth = smooth / smooth.sum()
    first = -x / sigma**2 * smooth
    second = (x * x / sigma**4 - 1 / sigma**2) * smooth
    second = second - second.mean()  # a constant image has no curvature, in spite of the cut tails
    flat = images.float() - images.float().mean(dim=(2, 3), keepdim=True)  # differences of small numbers
    padded = F.pad(flat, (radius,) * 4, mode="replicate")

    along_x = torch.stack([second, smooth, first]).flip(1).to(padded)[:, None, None, :]
    along_y = torch.stack([smooth, second, first]).flip(1).to(padded)[:, None, :, None]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # ten bits leave nothing of second differences
        xx, yy, xy = F.conv2d(F.conv2d(padded, along_x), along_y, groups=3).unbind(1)
    response = sigma**4 * (xx * yy - xy * xy)
    return response * (response >= _ROUNDING)


def peaks(response: Tensor, radius: int = 2) -> tuple[Tensor, Tensor]:
    """Local maxima of one map, each moved to the summit of the quadratic through its 3 x 3 neighbourhood.

    Args:
        response: ``(H, W)``.
        radius: a peak is the largest value within this many pixels on each side.

    Returns:
        positions ``(N, 2)`` float32 (x, y), at most half a pixel from the largest value along each axis, and the
        values ``(N,)`` there. The outermost pixels and values of zero are no peaks.
    """
    if radius < 1:
        raise ValueError(f"the radius of a peak must be at least 1 pixel, not {radius}")
    height, width = response.shape
    if min(height, width) < 3:
        return response.new_zeros(0, 2), response.new_zeros(0)
    highest = F.max_pool2d(response[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
    is_peak = (response == highest) & (response > 0)
    is_peak[[0, -1]] = False
    is_peak[:, [0, -1]] = False
    y, x = is_peak.nonzero(as_tuple=True)
    return refine_quadratic(response, torch.stack([x, y], dim=1)), response[y, x]


def peaks_of_all(responses: Tensor, radius: int = 2) -> tuple[Tensor, Tensor]:
    """Peaks of several maps of one image, finest first; a coarser one within a pixel of a finer one is the same place.

    Args:
        responses: ``(S, H, W)``.
        radius: see :func:`peaks`.

    Returns:
        positions ``(N, 2)`` float32 (x, y) and values ``(N,)``.
    """
    taken = torch.zeros_like(responses[0])
    positions, values = [], []
    for response in responses:
        xy, strength = peaks(response, radius)
        x, y = xy.round().long().T
        free = taken[y, x] == 0
        positions.append(xy[free])
        values.append(strength[free])
        found = torch.zeros_like(taken)
        found[y[free], x[free]] = 1
        taken = torch.maximum(taken, F.max_pool2d(found[None, None], 3, stride=1, padding=1)[0, 0])
    return torch.cat(positions), torch.cat(values)
