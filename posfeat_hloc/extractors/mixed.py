"""The keypoints of one feature type with the dense descriptors of another (as PoSFeat's Models 5 to 8 are made)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from posfeat_hloc import extractors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import dense
from posfeat_hloc.extractors.sift import grey_pixels
from posfeat_hloc.features import Features


@dataclass(frozen=True)
class Options:
    """Options of mixed features."""

    keypoints: Mapping[str, Any] = field(default_factory=lambda: {"name": "sift"})
    """Whose keypoints and scores: the ``model`` of any conf."""
    descriptor: str = "posfeat"
    """Whose descriptors: one of :data:`posfeat_hloc.extractors.dense.NETWORKS`."""
    weights: str = "posfeat"
    """Of the descriptors: a bundled or public name, or a path."""
    precision: str = "auto"
    """Of the descriptors: ``fp32``, ``bf16`` or ``auto``."""
    memory: int = 512
    """MiB for a tile of PoSFeat's description network."""


class Extractor:
    """Keypoints of one extractor, described by the dense map of a network."""

    def __init__(self, options: Options, device: torch.device) -> None:
        if "name" not in options.keypoints:
            raise ConfigurationError("keypoints must be the model of a conf: {'name': ..., <option>: <value>, ...}")
        self.options = options
        self.detector = extractors.create(dict(options.keypoints), str(device))
        self.descriptor = dense.DenseDescriptor(
            dense.DenseOptions(options.descriptor, options.weights, options.precision, options.memory), device
        )
        self.grayscale = self.detector.grayscale and self.descriptor.grayscale
        self.detection_noise = self.detector.detection_noise
        self.spread = getattr(self.detector, "spread", False)
        self.weights_sha256 = _hash_of(self.detector.weights_sha256, self.descriptor.weights_sha256)

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 3, H, W)`` images, ``(B, 1, H, W)`` where both parts see grey."""
        extractors.check_images(images, self.grayscale)
        return [self._extract(image) for image in images]

    def _extract(self, image: Tensor) -> Features:
        if min(image.shape[-2:]) < self.descriptor.min_size:
            return Features.empty(self.descriptor.dimension)
        found = self.detector(_seen(image, self.detector.grayscale)[None])[0]
        if len(found) == 0:
            return Features.empty(self.descriptor.dimension)
        described = self.descriptor(_seen(image, self.descriptor.grayscale), torch.from_numpy(found.keypoints))
        return Features(found.keypoints, found.scores, described.cpu().numpy())


def _seen(image: Tensor, grayscale: bool) -> Tensor:
    """The image as a part sees it: 8-bit grey where it takes grey."""
    if grayscale and len(image) == 3:
        return torch.from_numpy(grey_pixels(image))[None].float() / 255
    return image


def _hash_of(detector: str, descriptor: str) -> str:
    """Of the descriptor's weights, and of the detector's where it has some."""
    return hashlib.sha256((detector + descriptor).encode()).hexdigest() if detector else descriptor
