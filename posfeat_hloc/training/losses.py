"""Losses of descriptors at corresponding points: in a batch of points, and against the cells of a dense map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from posfeat_hloc.geometry.epipolar import symmetric_distances
from posfeat_hloc.training.correspondence import describe
from posfeat_hloc.training.options import MapLossOptions


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


@dataclass(frozen=True)
class MapLosses:
    """Scalars: the cross entropy over the competitors, the triplet loss with the hardest of them, the share of right
    nearest places (no competitor is more similar than the true place)."""

    softmax: Tensor
    triplet: Tensor
    right: Tensor


def map_losses(
    descriptors0: Tensor,
    descriptors1: Tensor,
    map1: Tensor,
    cells1: Tensor,
    points1: Tensor,
    valid: Tensor,
    options: MapLossOptions,
) -> MapLosses:
    """Find the points of image 0 among all points of image 1 and all cells of its map, one direction.

    Competitors are the valid points and the cells outside of the safe radius. The softmax is that of neural
    reprojection errors (Germain et al., 2021) over the true place and all competitors; the triplet is HardNet's (eq. 1)
    with the hardest competitor as its negative.

    Args:
        descriptors0, descriptors1: ``(B, P, D)`` unit vectors at corresponding points.
        map1: ``(B, D, h, w)`` of the second images, not normalised.
        cells1: ``(h w, 2)`` pixels of the cells of that map.
        points1: ``(B, P, 2)`` pixels in the second images.
        valid: ``(B, P)`` bool.
        options: temperature, safe radius, margin.

    Returns:
        means over all valid points, zero without any.
    """
    with torch.autocast(descriptors0.device.type, enabled=False):
        cells = F.normalize(map1.float().flatten(2), dim=1)
        true = (descriptors0 * descriptors1).sum(dim=2)
        cosines = torch.cat([torch.bmm(descriptors0, cells), torch.bmm(descriptors0, descriptors1.mT)], dim=2)
        places = torch.cat([cells1.expand(len(points1), -1, -1), points1], dim=1)
        excluded = torch.cdist(points1, places) < options.safe_radius
        excluded[:, :, len(cells1) :] |= ~valid[:, None]
        cosines = cosines.masked_fill(excluded, -1e4)
        scale = options.inverse_temperature
        others = torch.logsumexp(cosines * scale, dim=2)
        softmax = F.softplus(others - true * scale)
        hardest = cosines.amax(dim=2)
        distance, nearest = ((2 - 2 * x).clamp_min(1e-6).sqrt() for x in (true, hardest))
        triplet = F.relu(options.triplet_margin + distance - nearest)
        count = valid.sum().clamp_min(1)
        right = ((true > hardest) & valid).sum() / count
        return MapLosses((softmax * valid).sum() / count, (triplet * valid).sum() / count, right)


def epipolar_contrast(
    descriptors: tuple[Tensor, Tensor],
    points: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    fundamental: Tensor,
    options: MapLossOptions,
    band: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Supervision by camera poses alone, with everything off the epipolar line as negatives.

    PoSFeat's epipolar loss (eqs. 6 and 7) compares places on a line with each other only. Here the most similar pair of
    points that fulfil the epipolar geometry, each the other's best (the cycle consistency of CAPS as a mask), must be
    more similar than all points off the line, which are wrong for certain.

    Args:
        descriptors: of both images, ``(B, N, D)`` and ``(B, M, D)`` unit vectors, at points found independently.
        points: ``(B, N, 2)`` and ``(B, M, 2)`` pixels.
        valid: ``(B, N)`` and ``(B, M)`` bool, which points exist.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        options: temperature; points within the safe radius of the line do not compete.
        band: largest distance to the epipolar lines in both images, in pixels.

    Returns:
        two scalars: the mean cross entropy of both directions, zero without any pair; the share of points that have a
        partner.
    """
    with torch.autocast(fundamental.device.type, enabled=False):
        cosines = torch.bmm(descriptors[0], descriptors[1].mT)
        distance0, distance1 = symmetric_distances(*points, fundamental)
        exist = valid[0][:, :, None] & valid[1][:, None]
        on_line = exist & (torch.maximum(distance0, distance1) < band)
        along = cosines.detach().masked_fill(~on_line, -2.0)
        mutual = on_line & (along == along.amax(dim=2, keepdim=True)) & (along == along.amax(dim=1, keepdim=True))
        count = mutual.sum().clamp_min(1)
        scaled = cosines * options.inverse_temperature
        total = scaled.new_zeros(())
        for dim, distance in ((2, distance1), (1, distance0)):
            off_line = exist & (distance > options.safe_radius)
            others = torch.logsumexp(scaled.masked_fill(~off_line, -1e4), dim=dim, keepdim=True)
            total = total + (F.softplus(others - scaled) * mutual).sum() / count / 2
        return total, mutual.sum() / valid[0].sum().clamp_min(1)


def teacher_losses(
    descriptors: Tensor, taught: Tensor, valid: Tensor, inverse_temperature: float = 20.0
) -> tuple[Tensor, Tensor]:
    """How far descriptors are from those of a teacher at the same places.

    Args:
        descriptors, taught: ``(B, P, D)`` unit vectors.
        valid: ``(B, P)`` bool.
        inverse_temperature: of the softmax over the points of an image.

    Returns:
        two scalars: the mean of 1 - cosine, and the cross entropy of finding each point's own descriptor among the
        teacher's of all points of that image.
    """
    with torch.autocast(descriptors.device.type, enabled=False):
        count = valid.sum().clamp_min(1)
        direct = ((1 - (descriptors * taught).sum(dim=2)) * valid).sum() / count
        logits = torch.bmm(descriptors, taught.transpose(1, 2)) * inverse_temperature
        logits = logits.masked_fill(~valid[:, None], -1e4)
        target = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
        entropy = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(valid)
        return direct, (entropy * valid).sum() / count
