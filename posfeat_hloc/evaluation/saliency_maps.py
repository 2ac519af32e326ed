"""The maps of D2D figure 3, at the pixels they belong to."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.detection.d2d import absolute_saliency, relative_saliency
from posfeat_hloc.networks.l2net import pixels_to_map

_TINY = float(np.finfo(np.float32).tiny)  # a flat map stays flat


def saliency_maps(raw: Tensor, radius: int = 5) -> dict[str, NDArray[np.float32]]:
    """Both saliencies scaled to [0, 1], their product, scaled as well, and their differences, cut at zero.

    The two differences are divided by the larger maximum of both, or they would be dark.

    Args:
        raw: ``(1, D, h, w)`` descriptors before L2 normalisation.
        radius: r_RS in cells.

    Returns:
        title -> ``(h, w)``, in the order of the figure.
    """
    absolute, relative = absolute_saliency(raw)[0].numpy(), relative_saliency(raw, radius)[0].numpy()
    s_as, s_rs = _to_unit(absolute), _to_unit(relative)
    difference = (s_as - s_rs) / max(float(np.abs(s_as - s_rs).max()), _TINY)
    return {
        "S_AS": s_as,
        "S_RS": s_rs,
        "S_D2D": _to_unit(absolute * relative),
        "max(0, S_AS - S_RS)": np.maximum(0, difference),
        "max(0, S_RS - S_AS)": np.maximum(0, -difference),
    }


def on_pixels(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """HardNet's or SOSNet's cells ``(h, w)`` at pixels ``(H, W)``, bilinearly; NaN where the map does not reach."""
    corner, next_to_it = (pixels_to_map(torch.tensor([float(p)])).item() for p in (0, 1))
    step = next_to_it - corner
    to_cell = np.array([[step, 0, corner], [0, step, corner]])
    size, flags = (shape[1], shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    placed = cv2.warpAffine(values, to_cell, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    y, x = (np.arange(pixels) * step + corner for pixels in shape)
    inside = ((y >= 0) & (y <= values.shape[0] - 1))[:, None] & ((x >= 0) & (x <= values.shape[1] - 1))
    return np.asarray(np.where(inside, placed, np.nan), np.float32)


def _to_unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values - low) / max(high - low, _TINY), np.float32)
