"""VLAD over dense patch descriptors (Jegou et al. 2010, with Arandjelovic and Zisserman's intra-normalisation, 2013).

An image is described by the differences of its local descriptors to the nearest words of a vocabulary, added up word by
word. The vocabulary is learnt from the collection: one of other scenes ranks much worse
(``benchmarks/results/retrieval.md``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks import l2net
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.weights.loading import load_l2net

MAX_CLUSTERS = 120
"""Words of 128 dimensions that fit into an attribute of an HDF5 file (64 KB)."""

_SAMPLES = 200  # descriptors of an image that the vocabulary is learnt from
_ROUNDS = 15  # of k-means


@dataclass(frozen=True)
class Options:
    """Options of VLAD."""

    network: str = "hardnet"
    """``hardnet`` or ``sosnet``."""
    weights: str = "hardnet"
    """A bundled or public name, or the path of a checkpoint."""
    clusters: int = 64
    """K words; the global descriptor has 128 K dimensions."""
    seed: int = 0
    """Of the sampling and of k-means."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it."""


class Extractor:
    """Describes images once it has a vocabulary, given or learnt."""

    needs_vocabulary = True

    grayscale = True

    def __init__(self, options: Options, device: torch.device) -> None:
        if not 1 <= options.clusters <= MAX_CLUSTERS:
            raise ConfigurationError(f"clusters must be 1 to {MAX_CLUSTERS}, not {options.clusters}")
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_l2net(options.network, options.weights)
        self.network.to(device)
        self.vocabulary: Tensor | None = None

    def learn(self, images: Iterable[Tensor]) -> Tensor:
        """The vocabulary ``(K, 128)`` of grey images ``(1, H, W)``, by k-means of 200 local descriptors of each.

        Raises:
            ConfigurationError: they have fewer descriptors than the vocabulary has words.
        """
        generator = torch.Generator().manual_seed(self.options.seed)
        parts = [torch.zeros(0, 128)]
        for image in images:
            local = self._local(image).cpu()
            parts.append(local[torch.randperm(len(local), generator=generator)[:_SAMPLES]])
        samples = torch.cat(parts)
        if len(samples) < self.options.clusters:
            raise ConfigurationError(
                f"the images give {len(samples)} local descriptors, too few for a vocabulary of "
                f"{self.options.clusters} words; use more or larger images"
            )
        return k_means(samples, self.options.clusters, self.options.seed)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor | None:
        """The descriptor ``(128 K,)``, L2-normalised, of a grey image ``(1, H, W)`` in [0, 1]; None below 29 pixels."""
        local = self._local(image)
        if self.vocabulary is None:
            raise ValueError("there is no vocabulary yet")
        return vlad(local, self.vocabulary.to(local)).cpu() if len(local) else None

    @torch.inference_mode()
    def _local(self, image: Tensor) -> Tensor:
        """Every cell of the dense map, ``(N, 128)`` L2-normalised."""
        if min(image.shape[-2:]) < l2net.MIN_SIZE:
            return torch.zeros(0, 128, device=self.device)
        with inference_precision(self.device, self.options.precision):
            dense = self.network(image[None].to(self.device))[0].float()
        return F.normalize(dense.flatten(1).T, dim=1)


def vlad(local: Tensor, vocabulary: Tensor) -> Tensor:
    """Residuals of local descriptors to their nearest words, summed and normalised per word, then as one vector.

    Each residual counts by its direction only (Delhumeau et al. 2013).

    Args:
        local: ``(N, D)``.
        vocabulary: ``(K, D)``.

    Returns:
        ``(K D,)`` of unit length.
    """
    nearest = _nearest(local, vocabulary)
    residuals = F.normalize(local - vocabulary[nearest], dim=1)
    sums = torch.zeros_like(vocabulary).index_add_(0, nearest, residuals)
    return F.normalize(F.normalize(sums, dim=1).flatten(), dim=0)


def k_means(samples: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Centres ``(K, D)`` of samples ``(S, D)``, Lloyd's iteration; a centre without samples moves to one of them."""
    generator = torch.Generator().manual_seed(seed)
    centres = samples[torch.randperm(len(samples), generator=generator)[:clusters]]
    for _ in range(_ROUNDS):
        nearest = _nearest(samples, centres)
        counts = torch.bincount(nearest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        empty = counts == 0
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = samples[torch.randint(len(samples), (int(empty.sum()),), generator=generator)]
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """``(N,)`` rows of the centres nearest to points ``(N, D)``."""
    return (points @ centres.T - centres.square().sum(dim=1) / 2).argmax(dim=1)
