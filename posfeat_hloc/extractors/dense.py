"""Dense descriptors read at any keypoints: one class a network.

``Descriptor(options, device)(image, keypoints)``; SIFT and the mixed features of :mod:`posfeat_hloc.extractors.mixed`
are described by these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import disk
from posfeat_hloc.extractors.posfeat import pad
from posfeat_hloc.networks import d2net, l2net, resunet, superpoint
from posfeat_hloc.networks.fuse_conv_bn import fold_batch_norms
from posfeat_hloc.networks.interpolation import interpolate_cells
from posfeat_hloc.networks.precision import inference_precision
from posfeat_hloc.networks.tiled_inference import describe
from posfeat_hloc.weights.loading import load_caps, load_d2net, load_disk, load_l2net, load_posfeat, load_superpoint


@dataclass(frozen=True)
class DenseOptions:
    """Which network describes, and how it runs."""

    network: str
    """One of :data:`NETWORKS`."""
    weights: str
    """A bundled or public name, or the path of a checkpoint."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it."""
    memory: int = 512
    """MiB for a strip of PoSFeat, see :class:`posfeat_hloc.extractors.posfeat.Options`."""


class DenseDescriptor(Protocol):
    """What every network here offers."""

    grayscale: bool
    """Whether images are ``(1, H, W)`` rather than ``(3, H, W)``."""
    dimension: int
    min_size: int
    """Shortest side in pixels of an image that can be described."""
    weights_sha256: str

    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        """Describe ``(N, 2)`` keypoints of a ``(C, H, W)`` image in [0, 1]: ``(N, D)`` L2-normalised."""


def create(options: DenseOptions, device: torch.device) -> DenseDescriptor:
    """Load the network that the options name.

    Raises:
        ConfigurationError: no such network.
        WeightsError: the weights cannot be loaded.
    """
    if options.network not in NETWORKS:
        raise ConfigurationError(f"descriptor must be one of {', '.join(NETWORKS)}, not {options.network!r}")
    return NETWORKS[options.network](options, device)


class _L2Net:
    """HardNet or SOSNet, upright and at one scale."""

    grayscale, dimension, min_size = True, 128, l2net.MIN_SIZE

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        network, self.weights_sha256 = load_l2net(options.network, options.weights)
        self.network = fold_batch_norms(network).to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            dense = self.network(image[None].to(self.device)).float()
        return l2net.read_map(dense, [keypoints.to(dense)])


class _PoSFeat:
    """PoSFeat's description network on the whole image."""

    grayscale, dimension, min_size = False, 128, 1

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        loaded = load_posfeat(options.weights, with_head=False)
        self.network = fold_batch_norms(loaded.backbone).to(device)
        self.convention, self.weights_sha256 = loaded.convention, loaded.sha256

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            local_map, _ = describe(self.network, pad(image[None]).to(self.device), self.options.memory << 20)
        return read_descriptors(local_map[0], keypoints.to(self.device), self.convention)


class _SuperPoint:
    """SuperPoint's descriptor head, read as its authors do: at SuperPoint's keypoints, SuperPoint's descriptors."""

    grayscale, dimension, min_size = True, superpoint.DIMENSION, superpoint.MIN_SIZE

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.network, self.weights_sha256 = load_superpoint(options.weights)
        self.network.to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            dense = self.network(image[None].to(self.device)).descriptors[0]
        return superpoint.read_map(dense, keypoints.to(dense), "published")


class _D2Net:
    """D2-Net's map of one scale."""

    grayscale, dimension, min_size = False, d2net.DIMENSION, d2net.MIN_SIZE

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.network, self.weights_sha256 = load_d2net(options.weights)
        self.network.to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            dense = self.network(image[None].to(self.device))[0].float()
        return d2net.read_map(dense, keypoints.to(dense))


class _Disk:
    """DISK's map, a cell a pixel."""

    grayscale, dimension, min_size = False, disk.DIMENSION, disk.MIN_SIZE

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.network, self.weights_sha256 = load_disk(options.weights)
        self.network.to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            dense = disk.dense_descriptors(self.network, image[None].to(self.device))[0]
        return F.normalize(interpolate_cells(dense, keypoints.to(dense)), dim=1)


class _Caps:
    """CAPS's coarse and fine map, read at the keypoints and joined (Wang et al. 2020).

    Its authors' code runs on torch 1.2, whose ``grid_sample`` puts the first and the last pixel on the centres of the
    first and the last cell, and compares by the scalar product of what is joined; here the whole has length one.
    """

    grayscale, dimension, min_size = False, 2 * resunet.DIMENSION, resunet.MULTIPLE

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.network, self.weights_sha256 = load_caps(options.weights)
        self.network.to(device)

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        with inference_precision(self.device, self.options.precision):
            maps = self.network(image[None].to(self.device))
        coarse, fine = (
            interpolate_cells(dense[0].float(), _by_corners(keypoints, image, dense)).float()
            for dense in (maps.global_map, maps.local_map)
        )
        return F.normalize(torch.cat([coarse, fine], dim=1), dim=1)


def _by_corners(keypoints: Tensor, image: Tensor, dense: Tensor) -> Tensor:
    """Map coordinates of ``(N, 2)`` pixels where the corner pixels are the corner cells."""
    cells, pixels = (torch.tensor([t.shape[-1] - 1, t.shape[-2] - 1], device=dense.device) for t in (dense, image))
    return keypoints.to(dense.device) * (cells / pixels)


NETWORKS: dict[str, type[_L2Net | _PoSFeat | _SuperPoint | _D2Net | _Disk | _Caps]] = {
    "hardnet": _L2Net,
    "sosnet": _L2Net,
    "posfeat": _PoSFeat,
    "superpoint": _SuperPoint,
    "d2net": _D2Net,
    "disk": _Disk,
    "caps": _Caps,
}
"""Name in a conf -> what describes."""
