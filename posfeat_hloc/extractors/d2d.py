"""Describe-to-Detect over HardNet or SOSNet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.d2d import score_map, top_k
from posfeat_hloc.features import Features
from posfeat_hloc.networks import l2net
from posfeat_hloc.networks.l2net import map_to_pixels
from posfeat_hloc.networks.loading import load_l2net
from posfeat_hloc.networks.precision import inference_precision


@dataclass(frozen=True)
class Options:
    """Options of D2D; the defaults are the paper's."""

    network: str = "hardnet"
    """``hardnet`` or ``sosnet``."""
    weights: str = "hardnet"
    """A bundled name or the path of a checkpoint."""
    max_keypoints: int = 8192
    """K: this many cells with the highest scores become keypoints (the paper: about 16 k on Aachen)."""
    radius: int = 5
    """r_RS in cells of the map."""
    step: int = 2
    """Step between the neighbours in the window of r_RS."""
    relative_on: str = "raw"
    """S_RS on ``raw`` or L2-``normalized`` descriptors."""
    window: int | None = None
    """Side of the local normalisation in pixels; None takes what the weights were trained with, or 33."""
    eps: float | None = None
    """Added to the local deviation; None takes what the weights were trained with, or 1e-7."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it."""


class Extractor:
    """Top-K D2D keypoints on the grid (4x + 14, 4y + 14), read from one forward pass."""

    grayscale = True
    detection_noise = l2net.STRIDE / 12**0.5  # a true position anywhere in the cell

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_l2net(options.network, options.weights, options.window, options.eps)
        self.network.to(device)

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 1, H, W)`` images; one shorter than 29 pixels has none."""
        if min(images.shape[-2:]) < l2net.MIN_SIZE:
            return [Features.empty(128) for _ in images]
        with torch.inference_mode(), inference_precision(self.device, self.options.precision):
            raw = self.network(images.to(self.device)).float()
        return detect(raw, self.options)


@torch.inference_mode()
def detect(raw: Tensor, options: Options) -> list[Features]:
    """Top-K cells of dense maps ``(B, D, h, w)``, with the descriptors there."""
    scores = score_map(raw, options.radius, options.step, options.relative_on)
    result = []
    for image_map, image_scores in zip(raw, scores, strict=True):
        cells, values = top_k(image_scores, options.max_keypoints)
        descriptors = F.normalize(image_map[:, cells[:, 1], cells[:, 0]].T, dim=1)
        keypoints = map_to_pixels(cells.float())
        result.append(Features(keypoints.cpu().numpy(), values.cpu().numpy(), descriptors.cpu().numpy()))
    return result
