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
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import check_images, dense
from posfeat_hloc.extractors.posfeat import crop
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.weights.loading import load_l2net


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
    """MiB for a tile of PoSFeat's description network, see :class:`posfeat_hloc.extractors.posfeat.Options`."""


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
        self.min_size = 1
        self.descriptor: _PatchDescriptor | dense.DenseDescriptor | None = None
        if options.reading not in ("patches", "map"):
            raise ConfigurationError(f"reading must be 'patches' or 'map', not {options.reading!r}")
        if options.descriptor not in ("rootsift", "hardnet", "sosnet", "posfeat"):
            raise ConfigurationError(
                f"descriptor must be rootsift, hardnet, sosnet or posfeat, not {options.descriptor!r}; the extractor "
                "'mixed' reads the others"
            )
        if options.descriptor == "posfeat" or (options.descriptor != "rootsift" and options.reading == "map"):
            chosen = dense.DenseOptions(options.descriptor, options.weights, options.precision, options.memory)
            self.descriptor = dense.DenseDescriptor(chosen, device)
            self.min_size = self.descriptor.min_size
        elif options.descriptor != "rootsift":
            self.descriptor = _PatchDescriptor(options, device)
        if self.descriptor is not None:
            self.weights_sha256 = self.descriptor.weights_sha256

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 1, H, W)`` images, ``(B, 3, H, W)`` with PoSFeat."""
        check_images(images, self.grayscale)
        return [self._extract(image) for image in images]

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        if opt.descriptor == "posfeat":
            image = crop(image)
        if min(image.shape[-2:]) < self.min_size:
            return Features.empty(128)
        pixels = grey_pixels(image)
        found = sift.detect(
            pixels, opt.max_keypoints, opt.contrast_threshold, opt.edge_threshold, describe=self.descriptor is None
        )
        if len(found.keypoints) == 0:
            return Features.empty(128)
        if found.descriptors is not None:
            return Features(found.keypoints, found.scores, sift.root_sift(found.descriptors))
        if isinstance(self.descriptor, _PatchDescriptor):
            described = self.descriptor(image, found)
        else:
            assert self.descriptor is not None
            described = self.descriptor(image, torch.from_numpy(found.keypoints))
        return Features(found.keypoints, found.scores, described.cpu().numpy())


class _PatchDescriptor:
    """HardNet or SOSNet on patches in the frames of the keypoints."""

    def __init__(self, options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_l2net(options.descriptor, options.weights)
        self.network.to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, found: sift.SiftKeypoints) -> Tensor:
        """``(N, 128)`` descriptors of keypoints of a ``(1, H, W)`` image, in batches of patches."""
        with inference_precision(self.device, self.options.precision):
            batches = sift.cut_patches(image[None].cpu(), found).split(self.options.batch_size)
            described = [self.network.describe_patches(batch.to(self.device)).float() for batch in batches]
            return F.normalize(torch.cat(described), dim=1)


def grey_pixels(image: Tensor) -> NDArray[np.uint8]:
    """``(1 or 3, H, W)`` in [0, 1] to ``(H, W)`` 8-bit grey."""
    pixels = (image * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    if len(pixels) == 1:
        return pixels[0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY), np.uint8)
