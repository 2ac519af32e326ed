"""D2-Net (Dusmanu et al. 2019): one map that both describes and detects.

Parameter names are the authors' own: ``d2_tf.pth``, ``d2_ots.pth`` and ``d2_tf_no_phototourism.pth`` load unchanged.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.interpolation import interpolate_cells

STRIDE = 4
"""Pixels between neighbouring cells of the map."""

OFFSET = 1.5
"""Where the authors place cell 0, in pixels."""

DIMENSION = 512
"""Length of a descriptor."""

MIN_SIZE = 8
"""Shortest side of an image that still gives one cell."""

_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, of values up to 255


class D2Net(nn.Module):
    """VGG-16 up to conv4_3, its third pooling without stride and dilation after it: 7.6 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Sequential(
            *_convolutions(3, 64, 64),
            nn.MaxPool2d(2),
            *_convolutions(64, 128, 128),
            nn.MaxPool2d(2),
            *_convolutions(128, 256, 256, 256),
            nn.AvgPool2d(2, stride=1),
            *_convolutions(256, 512, 512, 512, dilation=2),
        )
        self.dense_feature_extraction = nn.ModuleDict({"model": layers})

    def forward(self, images: Tensor) -> Tensor:
        """Describe every fourth pixel.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1], both sides at least 8 pixels.

        Returns:
            ``(B, 512, H // 4 - 1, W // 4 - 1)``, not negative, *not* L2-normalised.
        """
        mean = torch.tensor(_CAFFE_MEAN).to(images)[:, None, None]
        return self.dense_feature_extraction["model"](images.flip(1) * 255 - mean)


def map_to_pixels(cells: Tensor) -> Tensor:
    """Cells ``(..., 2)`` (x, y) of the map to pixel coordinates."""
    return cells * STRIDE + OFFSET


def pixels_to_map(pixels: Tensor) -> Tensor:
    """Pixel coordinates ``(..., 2)`` (x, y) to (fractional) cells of the map."""
    return (pixels - OFFSET) / STRIDE


def read_map(dense: Tensor, pixels: Tensor) -> Tensor:
    """Read one map ``(512, h, w)`` bilinearly at ``(N, 2)`` pixels; beyond its border, its outermost cells.

    Returns:
        ``(N, 512)`` L2-normalised.
    """
    return F.normalize(interpolate_cells(dense, pixels_to_map(pixels)), dim=1)


def resize_map(maps: Tensor, height: int, width: int) -> Tensor:
    """Images or maps ``(B, C, h, w)`` resized as D2-Net's pyramid has it: the centres of their corners stay."""
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=True)


def _convolutions(*channels: int, dilation: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation))
        layers.append(nn.ReLU(inplace=True))
    return layers
