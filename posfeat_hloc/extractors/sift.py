"""RootSIFT, and SIFT keypoints described by HardNet, SOSNet or PoSFeat: the papers' baselines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection import sift
from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.posfeat import crop
from posfeat_hloc.features import Features
from posfeat_hloc.networks.l2net import MIN_SIZE, read_map
from posfeat_hloc.networks.loading import load_l2net, load_posfeat
from posfeat_hloc.networks.precision import inference_precision
from posfeat_hloc.networks.streaming import describe


@dataclass(frozen=True)
class Options:
    """Options of SIFT; detector settings are OpenCV's, which are Lowe's."""

    descriptor: str = "rootsift"
    """``rootsift``, ``hardnet``, ``sosnet`` or ``posfeat``."""
    weights: str = "hardnet"
    """Bundled name or path; not used by ``rootsift``. Of PoSFeat only the description network is read."""
    reading: str = "patches"
    """How HardNet and SOSNet are read: ``patches`` in the frames of the keypoints (scale and orientation), as in the
    papers, or the dense ``map`` at the keypoints (upright, one scale), which suits weights trained on the dense map."""
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
    memory: int = 512
    """MiB for a strip of PoSFeat's description network, see :class:`posfeat_hloc.extractors.posfeat.Options`."""


class Extractor:
    """SIFT keypoints with one of four descriptors.

    With PoSFeat the image is first cropped to multiples of 16 pixels, as published (PoSFeat, Model 3).
    """

    detection_noise = 1.0

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.grayscale = options.descriptor != "posfeat"
        self.weights_sha256 = ""
        self.descriptor: _L2NetDescriptor | _PosfeatDescriptor | None = None
        if options.reading not in ("patches", "map"):
            raise ConfigurationError(f"reading must be 'patches' or 'map', not {options.reading!r}")
        if options.descriptor == "posfeat":
            self.descriptor = _PosfeatDescriptor(options, device)
        elif options.descriptor != "rootsift":
            self.descriptor = _L2NetDescriptor(options, device)
        if self.descriptor is not None:
            self.weights_sha256 = self.descriptor.weights_sha256

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 1, H, W)`` images, ``(B, 3, H, W)`` with PoSFeat."""
        return [self._extract(image) for image in images]

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        if opt.descriptor == "posfeat":
            image = crop(image)
        if min(image.shape[-2:]) < (1 if self.descriptor is None else self.descriptor.min_size):
            return Features.empty(128)
        pixels = _grey(image)
        found = sift.detect(
            pixels, opt.max_keypoints, opt.contrast_threshold, opt.edge_threshold, describe=self.descriptor is None
        )
        if len(found.keypoints) == 0:
            return Features.empty(128)
        if found.descriptors is not None:
            descriptors = sift.root_sift(found.descriptors)
        else:
            assert self.descriptor is not None
            descriptors = self.descriptor(image, found)
        return Features(found.keypoints, found.scores, descriptors)


class _L2NetDescriptor:
    """HardNet or SOSNet on patches or as a dense map."""

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.min_size = MIN_SIZE if options.reading == "map" else 1
        self.network, self.weights_sha256 = load_l2net(options.descriptor, options.weights)
        self.network.to(device)

    def __call__(self, image: Tensor, found: sift.SiftKeypoints) -> NDArray[np.float32]:
        """``(N, 128)`` descriptors of keypoints of a ``(1, H, W)`` image."""
        with torch.inference_mode(), inference_precision(self.device, self.options.precision):
            read = self._patches if self.options.reading == "patches" else self._map
            return read(image, found).cpu().numpy()

    def _patches(self, image: Tensor, found: sift.SiftKeypoints) -> Tensor:
        """Describe the patches of all keypoints, in batches."""
        batches = sift.cut_patches(image[None].cpu(), found).split(self.options.batch_size)
        described = [self.network.describe_patches(batch.to(self.device)).float() for batch in batches]
        return F.normalize(torch.cat(described), dim=1)

    def _map(self, image: Tensor, found: sift.SiftKeypoints) -> Tensor:
        """Read the dense map at the keypoints, bilinearly; beyond its border, its outermost cells."""
        dense = self.network(image[None].to(self.device)).float()
        return read_map(dense, [torch.from_numpy(found.keypoints).to(dense)])


class _PosfeatDescriptor:
    """PoSFeat's description network."""

    min_size = 1

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        loaded = load_posfeat(options.weights, with_head=False)
        self.network = loaded.backbone.to(device)
        self.convention, self.weights_sha256 = loaded.convention, loaded.sha256

    def __call__(self, image: Tensor, found: sift.SiftKeypoints) -> NDArray[np.float32]:
        """``(N, 128)`` descriptors of keypoints of a ``(3, H, W)`` image with sides that are multiples of 16."""
        with torch.inference_mode():
            with inference_precision(self.device, self.options.precision):
                local_map, _ = describe(self.network, image[None].to(self.device), self.options.memory << 20)
            keypoints = torch.from_numpy(found.keypoints).to(self.device)
            return read_descriptors(local_map[0], keypoints, self.convention).cpu().numpy()


def _grey(image: Tensor) -> NDArray[np.uint8]:
    """``(1 or 3, H, W)`` in [0, 1] to ``(H, W)`` 8-bit grey."""
    pixels = (image * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    if len(pixels) == 1:
        return pixels[0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY), np.uint8)
