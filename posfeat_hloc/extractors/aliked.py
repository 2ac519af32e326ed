"""ALIKED (Zhao et al. 2023), network and detection by kornia (0.9 or newer)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import ALL_KEYPOINTS, SingleImageExtractor, features_by_score
from posfeat_hloc.features import Features
from posfeat_hloc.weights.kornia_networks import load_aliked

MIN_SIZE = 8
"""Shortest side in pixels: a descriptor's window and the border must fit."""


@dataclass(frozen=True)
class Options:
    """Options of ALIKED; the defaults are its authors'."""

    weights: str = "aliked-n16"
    """The authors' files by their public names, ``aliked-t16``, ``aliked-n16``, ``aliked-n16rot`` or ``aliked-n32``, or
    the path of a checkpoint; its form is read from the file."""
    max_keypoints: int | None = 20000
    """The highest scores are kept; None keeps all."""
    threshold: float = 0.2
    """A keypoint's score must be higher; where none is, those above the mean of the score map are taken. 0 takes all
    maxima, ``max_keypoints`` of them."""
    nms_radius: int = 2
    """A keypoint is the maximum of the window of this radius, in pixels, and as far from the border."""


class Extractor(SingleImageExtractor):
    """Peaks of ALIKED's score map, placed to a fraction of a pixel, with the descriptors there."""

    min_size = MIN_SIZE

    def __init__(self, options: Options, device: torch.device) -> None:
        if options.threshold < 0:
            raise ConfigurationError(f"threshold must be 0 or more, not {options.threshold}")
        if options.nms_radius < 1:
            raise ConfigurationError(f"nms_radius must be at least 1, not {options.nms_radius}")
        self.options = options
        self.device = device
        limit = ALL_KEYPOINTS if options.max_keypoints is None else options.max_keypoints
        self.network, self.weights_sha256 = load_aliked(options.weights, options.threshold, options.nms_radius, limit)
        self.dimension = int(self.network.get_parameter("desc_head.agg_weights").shape[-1])
        self.network.to(device)

    def _extract(self, image: Tensor) -> Features:
        found = self.network(image)[0]
        return features_by_score(found.keypoints, found.keypoint_scores, found.descriptors)
