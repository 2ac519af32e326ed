"""DISK (Tyszkiewicz, Fua and Trulls 2020), network and detection by kornia."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.feature import DISK
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import SingleImageExtractor, features_by_score
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.weights.loading import load_disk

DIMENSION = 128
"""Length of a descriptor."""

MIN_SIZE = 17
"""Shortest side in pixels: instance normalisation needs more than one of the coarsest cells, which are 16 px wide."""


@dataclass(frozen=True)
class Options:
    """Options of DISK."""

    weights: str = "disk-depth"
    """The authors' files by their public names, ``disk-depth`` or ``disk-epipolar``, or the path of a checkpoint."""
    max_keypoints: int | None = 8192
    """The highest scores are kept; None keeps all. The authors evaluate 2048 and 8192."""
    window: int = 5
    """Side of the window of the non-maximum suppression in pixels, odd."""
    threshold: float = 0.0
    """A keypoint's score must be higher."""
    precision: str = "fp32"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it, which exchanges many keypoints."""


class Extractor(SingleImageExtractor):
    """Peaks of DISK's heat map, with the descriptors there."""

    min_size, dimension = MIN_SIZE, DIMENSION

    def __init__(self, options: Options, device: torch.device) -> None:
        if options.window < 1 or options.window % 2 == 0:
            raise ConfigurationError(f"window must be odd and positive, not {options.window}")
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_disk(options.weights)
        self.network.to(device)

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        with inference_precision(self.device, opt.precision):
            found = self.network(image, opt.max_keypoints, opt.window, opt.threshold, pad_if_not_divisible=True)[0]
        return features_by_score(found.keypoints, found.detection_scores, found.descriptors)


def dense_descriptors(network: DISK, image: Tensor) -> Tensor:
    """A descriptor ``(1, 128, H, W)`` for each pixel of a ``(1, 3, H, W)`` image, *not* L2-normalised.

    The image is padded with zeros to multiples of 16, as kornia does.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % 16, 0, -height % 16))
    return network.heatmap_and_dense_descriptors(padded)[1][..., :height, :width].float()
