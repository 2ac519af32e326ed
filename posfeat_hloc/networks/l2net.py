"""HardNet and SOSNet (L2-Net shape), read densely or patch by patch.

The layers and their state-dict names are kornia's, which are the authors' own: public checkpoints
load unchanged.
"""

from __future__ import annotations

from typing import Any

import kornia.feature as KF
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.interpolation import interpolate_cells
from posfeat_hloc.networks.normalization import normalize_locally, normalize_patches

STRIDE = 4
"""Pixels between neighbouring cells of the dense map."""

OFFSET = 14
"""Cell (x, y) of the dense map describes the pixel (4x + 14, 4y + 14) (D2D, section 3.4)."""

PATCH_SIZE = 32
"""Side of the patches these networks are trained on, in pixels."""

MIN_SIZE = 29
"""Shortest side of an image that still gives one cell."""

_DROPOUT = {"hardnet": 0.3, "sosnet": 0.1}


class L2Net(nn.Module):
    """One of the two patch networks: seven convolutions, 51 x 51 receptive field, 128 dimensions.

    Args:
        architecture: ``"hardnet"`` or ``"sosnet"``. They differ in the names of their parameters and in
            the small constant of the patch normalisation.
        window: side in pixels of the local normalisation of a dense map, see :func:`normalize_locally`.
        eps: added to the local deviation, for images in ``[0, 1]``.
    """

    def __init__(self, architecture: str = "hardnet", window: int = 33, eps: float = 1e-7) -> None:
        super().__init__()
        if architecture not in _DROPOUT:
            raise ValueError(f"unknown architecture {architecture!r}; choose from {sorted(_DROPOUT)}")
        self.architecture = architecture
        self.window = window
        self.eps = eps
        if architecture == "hardnet":
            self.net: Any = KF.HardNet(pretrained=False)
            self.layers: nn.Sequential = self.net.features
        else:
            self.net = KF.SOSNet(pretrained=False)
            self.layers = self.net.layers[1:]  # without the InstanceNorm of a single patch

    def load_published(self, state_dict: dict[str, Tensor]) -> None:
        """Load weights under the authors' names (``features.N.*`` or ``layers.N.*``), strictly."""
        self.net.load_state_dict(state_dict, strict=True)

    def published(self) -> dict[str, Tensor]:
        """The weights under the authors' names."""
        return self.net.state_dict()

    def forward(self, images: Tensor) -> Tensor:
        """Describe every fourth pixel of images.

        Args:
            images: ``(B, 1, H, W)`` grey in ``[0, 1]``, both sides at least 29 pixels.

        Returns:
            ``(B, 128, ceil(H/4) - 7, ceil(W/4) - 7)``, *not* L2-normalised: the absolute saliency of D2D
            is the deviation of the raw descriptor.
        """
        return self.layers(_channels_last(normalize_locally(images, self.window, self.eps)))

    def describe_patches(self, patches: Tensor) -> Tensor:
        """Describe single patches, as the networks were published.

        Args:
            patches: ``(N, 1, 32, 32)`` grey in ``[0, 1]``.

        Returns:
            ``(N, 128)``, *not* L2-normalised.
        """
        if self.architecture == "hardnet":
            normalized = normalize_patches(patches)
        else:
            normalized = F.instance_norm(patches, eps=1e-5)
        return self.layers(_channels_last(normalized)).flatten(1)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def map_to_pixels(cells: Tensor) -> Tensor:
    """Cells ``(..., 2)`` (x, y) of the dense map to pixel coordinates."""
    return cells * STRIDE + OFFSET


def pixels_to_map(pixels: Tensor) -> Tensor:
    """Pixel coordinates ``(..., 2)`` (x, y) to (fractional) cells of the dense map."""
    return (pixels - OFFSET) / STRIDE


def read_map(maps: Tensor, pixels: list[Tensor]) -> Tensor:
    """Read dense maps bilinearly at pixel coordinates.

    Args:
        maps: ``(B, D, h, w)`` as :meth:`L2Net.forward` gives them.
        pixels: for each map ``(N_b, 2)`` (x, y) of the image; beyond the map's border its outermost cells are read.

    Returns:
        ``(sum of N_b, D)`` L2-normalised.
    """
    return F.normalize(torch.cat([interpolate(dense, xy) for dense, xy in zip(maps, pixels, strict=True)]), dim=1)


def interpolate(dense: Tensor, pixels: Tensor) -> Tensor:
    """Values ``(N, D)`` of one map ``(D, h, w)`` at pixel coordinates ``(N, 2)``, as :func:`read_map` reads them."""
    return interpolate_cells(dense, pixels_to_map(pixels))
