"""PoSFeat for CPUs and small devices: the same two networks in a lighter form, of this project's own design.

Both are trained by the stages of the paper and return what the paper's networks return. The description network sees
grey images, has a thirteenth of the operations of the ResNet-50 form, and cell i of its maps lies at pixel 4i exactly.
The keypoint head runs no wide convolution at full resolution: it adds what the maps say about a place, stretched from a
quarter of the resolution, to the curvature of the image, which says where exactly the place is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.resunet import DIMENSION, STRIDE, FeatureMaps

SMALL = "small"
"""Its name among the backbones."""

SMALL_CHANNELS = 64
"""Of the early map that the keypoint head reads beside the descriptors."""

HALO = 160
"""Pixels above and below that a row of the maps depends on, at most; a multiple of 16."""

HEAD_HALO = 32
"""The same of a row of scores; a multiple of 4."""

_LUMA = (0.299, 0.587, 0.114)
_FLAT = 1e-5
"""Curvature of a surface that counts as flat: a blob of about 1 % contrast has more."""


class SmallUNet(nn.Module):
    """Dense descriptors at a quarter of the image's resolution: 3.5 M parameters."""

    backbone_name = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(1, 32, stride=2), Unit(32, 32))
        self.level4 = nn.Sequential(Unit(32, 64, stride=2), Residual(64))
        self.level8 = nn.Sequential(Unit(64, 128, stride=2), Residual(128))
        self.level16 = nn.Sequential(Unit(128, 256, stride=2), Residual(256), Residual(256))
        self.conv_coarse = nn.Conv2d(256, DIMENSION, 1)
        self.lateral16 = nn.Conv2d(256, 128, 1)
        self.merge8 = Unit(128, 128)
        self.lateral8 = nn.Conv2d(128, DIMENSION, 1)
        self.lateral4 = nn.Conv2d(64, DIMENSION, 1)
        self.merge4 = Unit(DIMENSION, DIMENSION)
        self.conv_fine = nn.Conv2d(DIMENSION, DIMENSION, 1)

    def forward(self, images: Tensor) -> FeatureMaps:
        """Describe images.

        Args:
            images: ``(B, 3, H, W)`` RGB in ``[0, 1]``, both sides multiples of 16.
        """
        return self.maps(standardise(images))

    def maps(self, grey: Tensor) -> FeatureMaps:
        """The maps of standardised grey images ``(B, 1, H, W)``, or of rows of them: no row depends on all others."""
        if grey.shape[2] % 16 or grey.shape[3] % 16:
            raise ValueError(f"both sides must be multiples of 16, not {grey.shape[3]}x{grey.shape[2]}")
        fourth = self.level4(self.stem(grey))
        eighth = self.level8(fourth)
        sixteenth = self.level16(eighth)
        x = self.merge8(enlarge(self.lateral16(sixteenth), 2) + eighth)
        x = self.merge4(enlarge(self.lateral8(x), 2) + self.lateral4(fourth))
        return FeatureMaps(self.conv_fine(x), fourth, self.conv_coarse(sixteenth))


class SmallHead(nn.Module):
    """Scores of about 0.1 to 5: Softplus of an instance-normalised map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(DIMENSION + SMALL_CHANNELS, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 16, 1)
        self.conv3 = nn.Conv2d(16 + 3, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv5 = nn.Conv2d(16, 1, 1)
        self.curvature = nn.Parameter(torch.tensor([0.85, 0.15]))  # fine blobs are placed best
        nn.init.zeros_(self.conv5.weight)  # the start is a detector of blobs and corners, and nothing else
        nn.init.zeros_(self.conv5.bias)  # type: ignore[arg-type]

    def forward(self, local_map: Tensor, local_map_small: Tensor, images: Tensor) -> Tensor:
        """Score every pixel. The maps are taken as they are: detach them when the description network is frozen.

        Args:
            local_map, local_map_small: ``(B, 128, h, w)`` and ``(B, 64, h, w)`` of :class:`SmallUNet`.
            images: ``(B, 3, 4h, 4w)`` RGB in ``[0, 1]``.

        Returns:
            ``(B, 4h, 4w)``, positive.
        """
        return positive(self.logits(local_map, local_map_small, to_grey(images)))

    def logits(self, local_map: Tensor, local_map_small: Tensor, grey: Tensor) -> Tensor:
        """Before the normalisation, ``(B, 1, 4h, 4w)``, of whole maps and grey images or of rows of them."""
        lengths = torch.linalg.vector_norm(local_map, dim=1, keepdim=True)
        descriptors = local_map * (DIMENSION**0.5 / lengths.clamp_min(1e-12))
        x = F.relu(self.conv1(torch.cat([descriptors, local_map_small.to(descriptors)], dim=1)))
        x = enlarge(self.conv2(x), STRIDE)
        curvatures = log_curvatures(grey)
        image = torch.cat([grey - 0.5, curvatures.to(grey) * 0.2], dim=1)
        # conv3 of both side by side: joining them would copy the largest map of all
        x = F.conv2d(x, self.conv3.weight[:, :16], padding=1)
        x = F.relu(x.add_(F.conv2d(image, self.conv3.weight[:, 16:], self.conv3.bias, padding=1)), inplace=True)
        x = self.conv5(F.relu(self.conv4(x)))
        return x.float() + torch.einsum("s,bshw->bhw", self.curvature, curvatures)[:, None]


class Unit(nn.Module):
    """3x3 convolution, BatchNorm, ReLU; with stride s, output i is centred at input s i."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` to ``(B, outputs, h / stride, w / stride)``."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Unit(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, h, w)`` to the same shape."""
        return F.relu(x + self.bn(self.conv(self.first(x))), inplace=True)


def to_grey(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` RGB to ``(B, 1, H, W)`` (ITU-R 601)."""
    red, green, blue = images.float().unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2])[:, None]


def standardise(images: Tensor) -> Tensor:
    """Grey images ``(B, 1, H, W)`` of mean 0 and deviation 1, so that exposure does not matter."""
    return F.instance_norm(to_grey(images))


def enlarge(x: Tensor, times: int) -> Tensor:
    """Bilinear, with cell i of ``(B, C, h, w)`` at cell ``times`` i of the result; the last cell is held to the end."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, 1, 0, 1), mode="replicate")
    x = F.interpolate(x, size=(height * times + 1, width * times + 1), mode="bilinear", align_corners=True)
    return x[:, :, :-1, :-1]


def log_curvatures(grey: Tensor) -> Tensor:
    """Logarithms of the determinant of the Hessian of ``(B, 1, H, W)`` smoothed by 1.4 and 3.2 px: ``(B, 2, H, W)``.

    High on blobs and corners; contrast becomes a constant that the normalisation of the scores takes away. Gaussians
    are approached by spline filters with holes (1 4 6 4 1), which are fast on a CPU.
    """
    with torch.no_grad():
        once = _spline(_spline(grey.float(), 1), 1)
        twice = _spline(_spline(once, 2), 2)
        curvatures = torch.cat([2.0**2 * _determinant(once), 10.0**2 * _determinant(twice)], dim=1)
        return torch.log(curvatures.clamp_min_(0) + _FLAT)


def positive(logits: Tensor) -> Tensor:
    """Scores ``(B, H, W)`` of logits ``(B, 1, H, W)``."""
    return F.softplus(F.instance_norm(logits.float()))[:, 0]


def _spline(x: Tensor, step: int) -> Tensor:
    """Smooth by the cubic B-spline with ``step - 1`` holes between its taps, of variance step^2; borders are held."""
    x = F.pad(x, (2 * step,) * 4, mode="replicate")
    for dim in (2, 3):
        size = x.shape[dim] - 4 * step
        a, b, c, d, e = (x.narrow(dim, i * step, size) for i in range(5))
        x = ((a + e) + (b + d).mul_(4)).add_(c, alpha=6).mul_(1 / 16)
    return x


def _determinant(x: Tensor) -> Tensor:
    """Determinant of the Hessian by central differences; borders are held."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    centre = x[..., 1:-1, 1:-1]
    xx = x[..., 1:-1, 2:] + x[..., 1:-1, :-2] - 2 * centre
    yy = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] - 2 * centre
    xy = (x[..., 2:, 2:] + x[..., :-2, :-2] - x[..., 2:, :-2] - x[..., :-2, 2:]) / 4
    return xx * yy - xy * xy
