"""Self-supervised warm-up of the description network, for when there are no ImageNet weights to start from.

Two synthetic views of one photograph give points that correspond exactly; their descriptors are distinguished from
those of all other points of the batch (InfoNCE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from posfeat_hloc.training.correspondence import describe


@dataclass(frozen=True)
class ContrastiveOptions:
    """How points of a batch are distinguished."""

    inverse_temperature: float = 20.0
    """Cosines are multiplied by this before the softmax. PoSFeat trains with 60, which looks only at the few hardest
    negatives; a network that starts from nothing learns from many."""
    safe_radius: float = 12.0
    """Points of one view pair closer than this in either view are no negatives of each other, in pixels."""
    grid_alignment: str = "published"
    """Where the cells of the map lie; see :data:`posfeat_hloc.networks.posfeat.GRID_ALIGNMENTS`."""


def contrastive_loss(
    map0: Tensor,
    map1: Tensor,
    points0: Sequence[Tensor],
    points1: Sequence[Tensor],
    image_size: tuple[int, int],
    options: ContrastiveOptions,
) -> Tensor:
    """InfoNCE of descriptors read at corresponding points of view pairs.

    Serves local and global maps alike. Memory: a few P x P matrices for P points in the batch.

    Args:
        map0, map1: ``(B, D, h, w)`` maps of the first and the second views, not normalised.
        points0, points1: for each pair ``(N_b, 2)`` pixels; row i of both is the same place in the world.
        image_size: (height, width) of all views in pixels.
        options: temperature, safe radius, convention.

    Returns:
        scalar, the mean over points and both directions; zero without points.
    """
    counts = torch.tensor([len(points) for points in points0])
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts).to(map0.device)
    real = (torch.arange(int(counts.max())) < counts[:, None]).to(map0.device)
    near = owner[:, None] == owner
    close = torch.zeros_like(near)
    descriptors = []
    for dense, points in ((map0, points0), (map1, points1)):
        padded = pad_sequence([p.to(dense.device) for p in points], batch_first=True)
        descriptors.append(describe(dense, padded, image_size, options.grid_alignment)[real])
        xy = padded[real]
        close |= torch.cdist(xy, xy, compute_mode="donot_use_mm_for_euclid_dist") < options.safe_radius
    return info_nce(descriptors[0], descriptors[1], near & close, options.inverse_temperature)


def info_nce(
    descriptors0: Tensor, descriptors1: Tensor, not_negative: Tensor | None = None, inverse_temperature: float = 20.0
) -> Tensor:
    """Cross entropy of finding each point's partner among all points of the other views, both ways (InfoNCE).

    Args:
        descriptors0, descriptors1: ``(P, D)`` unit vectors; row i of both is the same place.
        not_negative: ``(P, P)`` bool, pairs that do not compete; the diagonal always does.
        inverse_temperature: of the softmax.

    Returns:
        scalar; zero when there is no point.
    """
    with torch.autocast(descriptors0.device.type, enabled=False):
        logits = inverse_temperature * (descriptors0 @ descriptors1.T)
    if len(logits) == 0:
        return logits.sum()  # the mean of nothing is NaN and would spoil the weights
    target = torch.arange(len(logits), device=logits.device)
    if not_negative is not None:
        logits = logits.masked_fill(not_negative & (target[:, None] != target), -torch.inf)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
