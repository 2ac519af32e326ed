"""SuperPoint (DeTone, Malisiewicz and Rabinovich 2018): a detector and a descriptor on one encoder.

Parameter names are the authors' own: ``superpoint_v1.pth`` loads unchanged. Its licence allows research that is not
commercial, and no redistribution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.interpolation import interpolate_cells

STRIDE = 8
"""Pixels between neighbouring cells of the descriptor map."""

OFFSET = 3.5
"""Cell (x, y) of the map has seen the pixels around (8x + 3.5, 8y + 3.5)."""

DIMENSION = 256
"""Length of a descriptor."""

MIN_SIZE = STRIDE
"""Shortest side of an image that still gives one cell."""

SAMPLING = ("published", "consistent")
"""How the map is read at a pixel. ``published``: the authors' code puts pixel 0 on the first cell and the image's right
edge on the last, up to half a cell off. ``consistent``: cell i lies at pixel 8i + 3.5 (hloc's ``fix_sampling``)."""


class SuperPointMaps(NamedTuple):
    """What the network returns; h, w are the sides of the image over 8, rounded down.

    Attributes:
        scores: ``(B, 8h, 8w)`` probability that a pixel is a keypoint; rows and columns beyond are not scored.
        descriptors: ``(B, 256, h, w)``, *not* L2-normalised.
    """

    scores: Tensor
    descriptors: Tensor


class SuperPoint(nn.Module):
    """Encoder of eight 3x3 convolutions with three poolings, and two heads: 1.3 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = _conv3(1, 64)
        self.conv1b = _conv3(64, 64)
        self.conv2a = _conv3(64, 64)
        self.conv2b = _conv3(64, 64)
        self.conv3a = _conv3(64, 128)
        self.conv3b = _conv3(128, 128)
        self.conv4a = _conv3(128, 128)
        self.conv4b = _conv3(128, 128)
        self.convPa = _conv3(128, 256)
        self.convPb = nn.Conv2d(256, STRIDE**2 + 1, 1)
        self.convDa = _conv3(128, 256)
        self.convDb = nn.Conv2d(256, DIMENSION, 1)

    def forward(self, images: Tensor) -> SuperPointMaps:
        """Score every pixel and describe every cell.

        Args:
            images: ``(B, 1, H, W)`` grey in [0, 1], both sides at least 8 pixels.
        """
        x = images
        for level in range(1, 5):
            if level > 1:
                x = F.max_pool2d(x, 2)
            for letter in "ab":
                x = F.relu(self.get_submodule(f"conv{level}{letter}")(x), inplace=True)
        logits = self.convPb(F.relu(self.convPa(x), inplace=True))
        places = torch.softmax(logits.float(), dim=1)[:, :-1]  # the last channel is "no keypoint in this cell"
        return SuperPointMaps(
            F.pixel_shuffle(places, STRIDE)[:, 0], self.convDb(F.relu(self.convDa(x), inplace=True)).float()
        )


def pixels_to_map(pixels: Tensor, map_size: tuple[int, int], sampling: str = "consistent") -> Tensor:
    """Pixel coordinates ``(..., 2)`` (x, y) to (fractional) cells of the descriptor map.

    Args:
        pixels: of the image.
        map_size: (h, w) in cells.
        sampling: one of :data:`SAMPLING`.
    """
    if sampling == "consistent":
        return (pixels - OFFSET) / STRIDE
    if sampling != "published":
        raise ValueError(f"sampling must be {' or '.join(SAMPLING)}, not {sampling!r}")
    cells = torch.tensor([map_size[1], map_size[0]]).to(pixels)
    return pixels / STRIDE * (cells - 1) / cells


def read_map(descriptors: Tensor, pixels: Tensor, sampling: str = "consistent") -> Tensor:
    """Read one descriptor map at pixel coordinates, bilinearly; beyond its border, its outermost cells.

    Args:
        descriptors: ``(256, h, w)`` as the network gives them; they are normalised before they are read, too.
        pixels: ``(N, 2)`` (x, y) of the image.
        sampling: one of :data:`SAMPLING`.

    Returns:
        ``(N, 256)`` L2-normalised.
    """
    cells = pixels_to_map(pixels, (descriptors.shape[1], descriptors.shape[2]), sampling)
    return F.normalize(interpolate_cells(F.normalize(descriptors, dim=0), cells), dim=1)


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
