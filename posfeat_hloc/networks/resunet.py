"""PoSFeat's description network: a U-Net over the first three stages of a ResNet, as in CAPS.

Parameter names are the published ones, with torchvision's inside ``layer1`` to ``layer3``: published checkpoints load
unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.normalization import normalize_imagenet

STRIDE = 4
"""Pixels between neighbouring cells of the map that is read."""

DIMENSION = 128
"""Length of a descriptor."""

MULTIPLE = 16
"""Images whose sides are multiples of this keep all maps aligned."""


@dataclass(frozen=True)
class ResNetShape:
    """Shape of a ResNet.

    Attributes:
        blocks: residual blocks of layer1, layer2 and layer3.
        bottleneck: 1x1, 3x3, 1x1 convolutions with four times the channels, instead of two 3x3.
        widening: factor on the channels inside a bottleneck.
    """

    blocks: tuple[int, int, int]
    bottleneck: bool = True
    widening: int = 1


RESNETS: dict[str, ResNetShape] = {
    "resnet18": ResNetShape((2, 2, 2), bottleneck=False),
    "resnet34": ResNetShape((3, 4, 6), bottleneck=False),
    "resnet50": ResNetShape((3, 4, 6)),
    "resnet101": ResNetShape((3, 4, 23)),
    "resnet152": ResNetShape((3, 8, 36)),
    "wide_resnet50_2": ResNetShape((3, 4, 6), widening=2),
}
"""torchvision's name -> shape."""


class FeatureMaps(NamedTuple):
    """What the description network returns; h, w are the sides of the image, multiples of 16, over 4.

    Attributes:
        local_map: ``(B, 128, h, w)`` descriptors, *not* L2-normalised.
        local_map_small: ``(B, 64, h, w)`` the stem's output, read by the keypoint head.
        global_map: ``(B, 128, h/4, w/4)`` the coarse descriptors that CAPS matches first; PoSFeat does not use them.
    """

    local_map: Tensor
    local_map_small: Tensor
    global_map: Tensor


class ResUNet(nn.Module):
    """Dense descriptors at a quarter of the image's resolution.

    Args:
        backbone_name: one of :data:`RESNETS`.
    """

    def __init__(self, backbone_name: str = "resnet50") -> None:
        super().__init__()
        if backbone_name not in RESNETS:
            raise ValueError(f"unknown backbone {backbone_name!r}; choose from {', '.join(RESNETS)}")
        shape = RESNETS[backbone_name]
        self.backbone_name = backbone_name
        expansion = 4 if shape.bottleneck else 1
        c1, c2, c3 = (width * expansion for width in (64, 128, 256))
        self.firstconv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.firstbn = nn.BatchNorm2d(64)
        self.layer1 = _stage(shape, 0, 64, 64, stride=1)
        self.layer2 = _stage(shape, 1, c1, 128, stride=2)
        self.layer3 = _stage(shape, 2, c2, 256, stride=2)
        self.conv_coarse = ConvUnit(c3, DIMENSION, 1)
        self.upconv3 = UpConv(c3, 512)
        self.iconv3 = ConvUnit(512 + c2, 512, 3)
        self.upconv2 = UpConv(512, 256)
        self.iconv2 = ConvUnit(256 + c1, 256, 3)
        self.conv_fine = ConvUnit(256, DIMENSION, 1)

    def forward(self, images: Tensor) -> FeatureMaps:
        """Describe images.

        Sides that are no multiples of 16 are computed as published: the skip connections are padded with zeros to the
        upsampled maps, so ``local_map`` has 4 ceil(H/16) rows, and its cells shift against the pixels. Extractors crop
        or pad the image instead.

        Args:
            images: ``(B, 3, H, W)`` RGB in ``[0, 1]``.
        """
        small = self.stem(images)
        first = self.layer1(small)
        second = self.layer2(first)
        third = self.layer3(second)
        x = self.iconv3(_join(self.upconv3(third), second))
        x = self.iconv2(_join(self.upconv2(x), first))
        return FeatureMaps(self.conv_fine(x), small, self.conv_coarse(third))

    def stem(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in ``[0, 1]`` to ``(B, 64, ceil(H/4), ceil(W/4))``; cell i is centred at pixel 4i."""
        x = self.firstbn(self.firstconv(normalize_imagenet(images)))
        return F.max_pool2d(F.relu(x, inplace=True), 3, stride=2, padding=1)


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, ELU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=(kernel - 1) // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` to ``(B, outputs, h, w)``."""
        return F.elu(self.bn(self.conv(x)), inplace=True)


class UpConv(nn.Module):
    """Bilinear upsampling to twice the size (corners aligned), then a 3x3 unit."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvUnit(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` to ``(B, outputs, 2h, 2w)``."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1; the first 3x3 has the stride."""

    def __init__(self, inputs: int, width: int, stride: int, shape: ResNetShape) -> None:
        super().__init__()
        self.bottleneck = shape.bottleneck
        self.stride = stride
        if self.bottleneck:
            inner, outputs = width * shape.widening, width * 4
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
            self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            inner = outputs = width
            self.conv1 = nn.Conv2d(inputs, inner, 3, stride=stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    @property
    def reach(self) -> int:
        """Rows of the input above and below that one row of the output looks at."""
        return 1 if self.bottleneck else 1 + self.stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` to ``(B, outputs, h / stride, w / stride)``."""
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(F.relu(x, inplace=True)))
        return F.relu(x + skip, inplace=True)


def backbone_name_of(names: Iterable[str], first_width: int) -> str | None:
    """The backbone whose parameters are named so, None when there is no such backbone.

    Args:
        names: keys of a state dict.
        first_width: output channels of ``layer1.0.conv1``; they tell a wide backbone.
    """
    known = set(names)
    for name, shape in RESNETS.items():
        last = [f"layer{i}.{n - 1}.conv1.weight" for i, n in enumerate(shape.blocks, 1)]
        beyond = [f"layer{i}.{n}.conv1.weight" for i, n in enumerate(shape.blocks, 1)]
        if (
            known.issuperset(last)
            and known.isdisjoint(beyond)
            and ("layer1.0.conv3.weight" in known) == shape.bottleneck
            and first_width == 64 * shape.widening
        ):
            return name
    return None


def _stage(shape: ResNetShape, number: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    outputs = width * 4 if shape.bottleneck else width
    rest = [Block(outputs, width, 1, shape) for _ in range(shape.blocks[number] - 1)]
    return nn.Sequential(Block(inputs, width, stride, shape), *rest)


def _join(upsampled: Tensor, skip: Tensor) -> Tensor:
    """Channels of both maps, the skip connection padded with zeros to the size of the upsampled map."""
    missing_y, missing_x = upsampled.shape[2] - skip.shape[2], upsampled.shape[3] - skip.shape[3]
    left, top = missing_x // 2, missing_y // 2
    return torch.cat([upsampled, F.pad(skip, (left, missing_x - left, top, missing_y - top))], dim=1)
