"""Dense descriptors read at any keypoints: one function per network loads it and describes its map.

``DenseDescriptor(options, device)(image, keypoints)``; SIFT and the mixed features of
:mod:`posfeat_hloc.extractors.mixed` are described by these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import disk
from posfeat_hloc.extractors.posfeat import pad
from posfeat_hloc.networks import d2net, l2net, resunet, superpoint
from posfeat_hloc.networks.inference import fuse_batch_norms, inference_precision
from posfeat_hloc.networks.interpolation import interpolate_cells
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
    """MiB for a tile of PoSFeat, see :class:`posfeat_hloc.extractors.posfeat.Options`."""


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, how it runs on an image, and how its map is read."""

    network: nn.Module
    weights_sha256: str
    run: Callable[[Tensor], Any]
    """``(1, C, H, W)`` image -> map or maps."""
    read: Callable[[Any, Tensor, Tensor], Tensor]
    """Map or maps, the image and ``(N, 2)`` keypoints on the same device -> ``(N, D)``."""


@dataclass(frozen=True)
class DenseNetwork:
    """What is known of a network before it is loaded."""

    load: Callable[[DenseOptions], Loaded]
    grayscale: bool
    """Whether images are ``(1, H, W)`` rather than ``(3, H, W)``."""
    dimension: int
    min_size: int
    """Shortest side in pixels of an image that can be described."""


class DenseDescriptor:
    """The dense map of a network, read at keypoints.

    Raises:
        ConfigurationError: no such network.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, options: DenseOptions, device: torch.device) -> None:
        if options.network not in NETWORKS:
            raise ConfigurationError(f"descriptor must be one of {', '.join(NETWORKS)}, not {options.network!r}")
        kind = NETWORKS[options.network]
        self.grayscale, self.dimension, self.min_size = kind.grayscale, kind.dimension, kind.min_size
        self.options, self.device = options, device
        self._loaded = kind.load(options)
        self._loaded.network.to(device)
        self.weights_sha256 = self._loaded.weights_sha256

    @torch.inference_mode()
    def __call__(self, image: Tensor, keypoints: Tensor) -> Tensor:
        """Describe ``(N, 2)`` keypoints of a ``(C, H, W)`` image in [0, 1]: ``(N, D)`` L2-normalised."""
        image = image[None].to(self.device)
        with inference_precision(self.device, self.options.precision):
            dense = self._loaded.run(image)
        return self._loaded.read(dense, image, keypoints.to(self.device, torch.float32))


def _l2net(options: DenseOptions) -> Loaded:
    """HardNet or SOSNet, upright and at one scale."""
    network, sha256 = load_l2net(options.network, options.weights)
    network = fuse_batch_norms(network)
    return Loaded(network, sha256, network, lambda dense, _, keypoints: l2net.read_map(dense.float(), [keypoints]))


def _posfeat(options: DenseOptions) -> Loaded:
    """PoSFeat's description network on the whole image."""
    loaded = load_posfeat(options.weights, with_head=False)
    network = fuse_batch_norms(loaded.backbone)
    return Loaded(
        network,
        loaded.sha256,
        lambda image: describe(network, pad(image), options.memory << 20)[0],
        lambda dense, _, keypoints: read_descriptors(dense[0], keypoints, loaded.grid_alignment),
    )


def _superpoint(options: DenseOptions) -> Loaded:
    """SuperPoint's descriptor head, read as its authors do: at SuperPoint's keypoints, SuperPoint's descriptors."""
    network, sha256 = load_superpoint(options.weights)
    return Loaded(
        network,
        sha256,
        lambda image: network(image).descriptors[0],
        lambda dense, _, keypoints: superpoint.read_map(dense, keypoints, "published"),
    )


def _d2net(options: DenseOptions) -> Loaded:
    """D2-Net's map of one scale."""
    network, sha256 = load_d2net(options.weights)
    return Loaded(network, sha256, network, lambda dense, _, keypoints: d2net.read_map(dense[0].float(), keypoints))


def _disk(options: DenseOptions) -> Loaded:
    """DISK's map, a cell a pixel."""
    network, sha256 = load_disk(options.weights)
    return Loaded(
        network,
        sha256,
        lambda image: disk.dense_descriptors(network, image)[0],
        lambda dense, _, keypoints: F.normalize(interpolate_cells(dense, keypoints), dim=1),
    )


def _caps(options: DenseOptions) -> Loaded:
    """CAPS's coarse and fine map, read at the keypoints and joined (Wang et al. 2020).

    Its authors' code runs on torch 1.2, whose ``grid_sample`` puts the first and the last pixel on the centres of the
    first and the last cell, and compares by the scalar product of what is joined; here the whole has length one.
    """

    def read(maps: Any, image: Tensor, keypoints: Tensor) -> Tensor:
        coarse, fine = (
            interpolate_cells(dense[0].float(), _by_corners(keypoints, image, dense))
            for dense in (maps.global_map, maps.local_map)
        )
        return F.normalize(torch.cat([coarse, fine], dim=1), dim=1)

    network, sha256 = load_caps(options.weights)
    return Loaded(network, sha256, network, read)


def _by_corners(keypoints: Tensor, image: Tensor, dense: Tensor) -> Tensor:
    """Map coordinates of ``(N, 2)`` pixels where the corner pixels are the corner cells."""
    cells, pixels = (torch.tensor([t.shape[-1] - 1, t.shape[-2] - 1], device=dense.device) for t in (dense, image))
    return keypoints.to(dense.device) * (cells / pixels)


NETWORKS: dict[str, DenseNetwork] = {
    "hardnet": DenseNetwork(_l2net, grayscale=True, dimension=128, min_size=l2net.MIN_SIZE),
    "sosnet": DenseNetwork(_l2net, grayscale=True, dimension=128, min_size=l2net.MIN_SIZE),
    "posfeat": DenseNetwork(_posfeat, grayscale=False, dimension=resunet.DIMENSION, min_size=1),
    "superpoint": DenseNetwork(
        _superpoint, grayscale=True, dimension=superpoint.DIMENSION, min_size=superpoint.MIN_SIZE
    ),
    "d2net": DenseNetwork(_d2net, grayscale=False, dimension=d2net.DIMENSION, min_size=d2net.MIN_SIZE),
    "disk": DenseNetwork(_disk, grayscale=False, dimension=disk.DIMENSION, min_size=disk.MIN_SIZE),
    "caps": DenseNetwork(_caps, grayscale=False, dimension=2 * resunet.DIMENSION, min_size=resunet.MULTIPLE),
}
"""Name in a conf -> the network that describes."""
