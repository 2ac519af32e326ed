"""One face for networks that give a dense map of descriptors: PoSFeat's description network, HardNet, SOSNet."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import cells_to_pixels, sample_map
from posfeat_hloc.networks.l2net import L2Net, map_to_pixels, pixels_to_map
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import to_grey


class DenseNetwork(Protocol):
    """What the training of descriptors needs of a network."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def maps(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] to ``(B, D, h, w)``, not normalised."""

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """Unit descriptors ``(B, N, D)`` at pixels ``(B, N, 2)`` of square images of that size."""

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """``(h w, 2)`` pixels of the cells, row by row."""


class PoSFeatMaps:
    """The description network of PoSFeat; its keypoint head is left alone."""

    def __init__(self, network: PoSFeat, grid_alignment: str) -> None:
        self.network = network
        self.grid_alignment = grid_alignment
        network.localheader.requires_grad_(False)
        network.backbone.conv_coarse.requires_grad_(False)

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`DenseNetwork`."""
        return self.network.backbone(images).local_map

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        padding = "zeros" if self.grid_alignment == "published" else "border"
        return F.normalize(sample_map(dense, pixels, (size, size), self.grid_alignment, padding), dim=-1)

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        return cells_to_pixels(_lattice(dense), (dense.shape[2], dense.shape[3]), (size, size), self.grid_alignment)


class L2NetMaps:
    """HardNet or SOSNet, read densely."""

    def __init__(self, network: L2Net) -> None:
        self.network = network

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`DenseNetwork`."""
        return self.network(to_grey(images))

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        last = pixels.new_tensor([dense.shape[3] - 1, dense.shape[2] - 1])
        grid = pixels_to_map(pixels) * (2 / last) - 1
        read = F.grid_sample(dense.float(), grid[:, :, None], padding_mode="border", align_corners=True)
        return F.normalize(read[..., 0].transpose(1, 2), dim=-1)

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        return map_to_pixels(_lattice(dense))


def _lattice(dense: Tensor) -> Tensor:
    rows, columns = (torch.arange(n, device=dense.device, dtype=torch.float32) for n in dense.shape[2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
