"""XFeat (Potje et al. 2024), network and detection by kornia (0.9 or newer); its sparse keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.extractors import ALL_KEYPOINTS, SingleImageExtractor, features_by_score
from posfeat_hloc.features import Features
from posfeat_hloc.weights.kornia_networks import load_xfeat

STEP = 32
"""kornia's XFeat makes both sides of an image multiples of this many pixels, rounding down."""


@dataclass(frozen=True)
class Options:
    """Options of XFeat; the defaults are its authors'."""

    weights: str = "xfeat"
    """The authors' file by its public name, or the path of a checkpoint."""
    max_keypoints: int | None = 4096
    """The highest scores are kept; None keeps all."""
    threshold: float = 0.05
    """The value of the keypoint map must be higher; the score is this value times the reliability."""


class Extractor(SingleImageExtractor):
    """Peaks of XFeat's keypoint map, with the descriptors there. They have integer positions in the resized image."""

    dimension = 64
    concurrent = True

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_xfeat(options.weights)
        self.network.to(device)

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        limit = ALL_KEYPOINTS if opt.max_keypoints is None else opt.max_keypoints
        found = self.network.detectAndCompute(image, top_k=limit, detection_threshold=opt.threshold)[0]
        size = torch.tensor([image.shape[-1], image.shape[-2]], device=self.device)
        ratio = size / (size // STEP * STEP).clamp_min(STEP)
        # kornia multiplies the indices of pixels by the ratio; their centres lie half a pixel further on
        keypoints = found["keypoints"] + 0.5 * ratio - 0.5
        return features_by_score(keypoints, found["scores"], found["descriptors"])
