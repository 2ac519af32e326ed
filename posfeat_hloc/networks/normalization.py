"""Input normalisation: patches and dense maps of patch networks, ImageNet's colors for ResNets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CLAMP = 6.0
"""Normalised values are clamped to +-6 standard deviations, as in HardNet's own dense example."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_patches(patches: Tensor, eps: float = 1e-7) -> Tensor:
    """Give every patch zero mean and unit standard deviation (HardNet: eps is added to the deviation).

    Args:
        patches: ``(N, 1, S, S)``.
    """
    std, mean = torch.std_mean(patches, dim=(1, 2, 3), keepdim=True)
    return (patches - mean) / (std + eps)


def normalize_locally(images: Tensor, window: int = 33, eps: float = 1e-7) -> Tensor:
    """Normalise every pixel by the mean and deviation of the box around it: the dense form of the above.

    Borders are reflected. An image smaller than half the window is normalised with the largest window
    that reflection allows.

    Args:
        images: ``(B, 1, H, W)``, any intensity range.
        window: side of the box in pixels, odd. A 32-pixel patch network expects about its patch size;
            HardNet's own dense example uses 17.
        eps: added to the deviation, in units of the image's intensity. A value near the sensor noise
            keeps flat areas (sky, walls) flat instead of turning their noise into texture.

    Returns:
        ``(B, 1, H, W)`` float32, clamped to +-6.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the normalisation window must be odd and positive, not {window}")
    height, width = images.shape[-2:]
    pad_y, pad_x = min(window // 2, height - 1), min(window // 2, width - 1)
    x = images.float()
    x = x - x.mean(dim=(2, 3), keepdim=True)  # keeps E[x^2] - E[x]^2 well conditioned in float32
    padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y), mode="reflect")

    def box(y: Tensor) -> Tensor:
        y = F.avg_pool2d(y, (2 * pad_y + 1, 1), stride=1)
        return F.avg_pool2d(y, (1, 2 * pad_x + 1), stride=1)

    mean = box(padded)
    std = (box(padded * padded) - mean * mean).clamp_min(0).sqrt()
    return ((x - mean) / (std + eps)).clamp(-CLAMP, CLAMP)


def normalize_imagenet(images: Tensor) -> Tensor:
    """Subtract ImageNet's mean color and divide by its deviation: ``(B, 3, H, W)`` RGB in [0, 1], same shape."""
    mean, std = images.new_tensor(IMAGENET_MEAN), images.new_tensor(IMAGENET_STD)
    return (images - mean[:, None, None]) / std[:, None, None]
