"""Losses of patch descriptors: HardNet's hardest-in-batch triplet and SOSNet's second-order similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def distance_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances ``(N, M)`` between unit vectors ``(N, D)`` and ``(M, D)``: sqrt(2 - 2 a.b)."""
    return (2 - 2 * a @ b.T).clamp_min(1e-8).sqrt()


def hardest_in_batch_loss(
    anchors: Tensor, positives: Tensor, not_negative: Tensor | None = None, margin: float = 1.0
) -> Tensor:
    """HardNet's triplet margin loss with the hardest negative of the batch (HardNet, eq. 1-2).

    For pair i the negative is the closest of all non-matching positives of ``anchors[i]`` (its row) and of
    all non-matching anchors of ``positives[i]`` (its column).

    Args:
        anchors, positives: ``(N, D)`` unit vectors; row i of both is the same point.
        not_negative: ``(N, N)`` bool, entries that must not serve as negatives because they show (nearly) the
            same place; the diagonal is always left out.
        margin: of the triplet loss.

    Returns:
        scalar mean over the pairs that have a negative; zero when none has.
    """
    distances = distance_matrix(anchors, positives)
    excluded = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    if not_negative is not None:
        excluded = excluded | not_negative
    candidates = distances.masked_fill(excluded, float("inf"))
    negative = torch.minimum(candidates.min(dim=1).values, candidates.min(dim=0).values)
    valid = negative.isfinite()
    if not valid.any():
        return distances.sum() * 0  # the mean of nothing is NaN and would spoil the weights
    return F.relu(margin + distances.diagonal()[valid] - negative[valid]).mean()


def second_order_similarity(
    anchors: Tensor, positives: Tensor, k: int = 8, not_negative: Tensor | None = None
) -> Tensor:
    """SOSNet's regulariser: distances among anchors equal distances among positives (SOSNet, eq. 3-4).

    For pair i only those j count that are among the k nearest neighbours of i within the anchors or within
    the positives.

    Args:
        anchors, positives: ``(N, D)`` unit vectors.
        k: neighbours in the batch, all others in a batch smaller than that.
        not_negative: ``(N, N)`` bool, entries that may not be neighbours.

    Returns:
        scalar mean over the batch of sqrt(sum_j (d(a_i, a_j) - d(p_i, p_j))^2).
    """
    among_anchors = distance_matrix(anchors, anchors)
    among_positives = distance_matrix(positives, positives)
    excluded = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    if not_negative is not None:
        excluded = excluded | not_negative
    near = torch.zeros_like(excluded)
    k = min(k, len(anchors))
    for distances in (among_anchors, among_positives):
        nearest = distances.detach().masked_fill(excluded, float("inf")).topk(k, largest=False).indices
        near.scatter_(1, nearest, torch.ones_like(nearest, dtype=torch.bool))
    near &= ~excluded
    difference = (among_anchors - among_positives).pow(2) * near
    return difference.sum(dim=1).clamp_min(1e-8).sqrt().mean()
