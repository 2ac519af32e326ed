"""RootSIFT, and SIFT keypoints described by HardNet or SOSNet: the papers' baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection import sift
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.features import Features
from posfeat_hloc.networks.l2net import MIN_SIZE, read_map
from posfeat_hloc.networks.loading import load_l2net
from posfeat_hloc.networks.precision import inference_precision


@dataclass(frozen=True)
class Options:
    """Options of SIFT; detector settings are OpenCV's, which are Lowe's."""

    descriptor: str = "rootsift"
    """``rootsift``, ``hardnet`` or ``sosnet``."""
    weights: str = "hardnet"
    """Bundled name or path; used by ``hardnet`` and ``sosnet`` only."""
    reading: str = "patches"
    """How the network is read: ``patches`` in the frames of the keypoints (scale and orientation), as in the papers, or
    the dense ``map`` at the keypoints (upright, one scale), which suits weights trained on the dense map."""
    max_keypoints: int = 8192
    """The strongest responses are kept."""
    contrast_threshold: float = 0.04
    """OpenCV's ``contrastThreshold``; lower gives more keypoints in weak texture."""
    edge_threshold: float = 10.0
    """OpenCV's ``edgeThreshold``."""
    precision: str = "auto"
    """Of the network: ``fp32``, ``bf16`` or ``auto``."""
    batch_size: int = 1024
    """Patches described at once."""


class Extractor:
    """SIFT keypoints with one of three descriptors."""

    grayscale = True
    detection_noise = 1.0

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        if options.reading not in ("patches", "map"):
            raise ConfigurationError(f"reading must be 'patches' or 'map', not {options.reading!r}")
        self.network = None
        self.weights_sha256 = ""
        if options.descriptor != "rootsift":
            self.network, self.weights_sha256 = load_l2net(options.descriptor, options.weights)
            self.network.to(device)

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 1, H, W)`` images."""
        return [self._extract(image) for image in images]

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        pixels = (image[0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        found = sift.detect(
            pixels, opt.max_keypoints, opt.contrast_threshold, opt.edge_threshold, describe=self.network is None
        )
        if len(found.keypoints) == 0 or (opt.reading == "map" and min(pixels.shape) < MIN_SIZE):
            return Features.empty(128)
        if found.descriptors is not None:
            descriptors = sift.root_sift(found.descriptors)
        elif opt.reading == "patches":
            descriptors = self._describe_patches(image, found)
        else:
            descriptors = self._read_map(image, found)
        return Features(found.keypoints, found.scores, descriptors)

    def _describe_patches(self, image: Tensor, found: sift.SiftKeypoints) -> np.ndarray:
        """Describe the patches of all keypoints, in batches."""
        assert self.network is not None
        patches = sift.cut_patches(image[None].cpu(), found)
        described = []
        with torch.inference_mode(), inference_precision(self.device, self.options.precision):
            for batch in patches.split(self.options.batch_size):
                described.append(F.normalize(self.network.describe_patches(batch.to(self.device)).float(), dim=1))
        return torch.cat(described).cpu().numpy()

    def _read_map(self, image: Tensor, found: sift.SiftKeypoints) -> np.ndarray:
        """Read the dense map at the keypoints, bilinearly; beyond its border, its outermost cells."""
        assert self.network is not None
        with torch.inference_mode(), inference_precision(self.device, self.options.precision):
            dense = self.network(image[None].to(self.device)).float()
        return read_map(dense, [torch.from_numpy(found.keypoints).to(dense)]).cpu().numpy()
