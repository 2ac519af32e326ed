"""Losses that tell corresponding points apart from the other points and from a dense map, and a teacher's descriptors.

Points compete with points as well as with cells: points lie at peaks of curvature and are read between cells. Against
cells alone a network learns to give all points something in common that no cell has, which wins here and makes
keypoints alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.geometry.epipolar import symmetric_distances


@dataclass(frozen=True)
class MapLossOptions:
    """How points compete with each other and with the cells of a map."""

    inverse_temperature: float = 30.0
    """Cosines are multiplied by this before the softmax."""
    safe_radius: float = 7.0
    """Points and cells nearer to the true place than this are no competitors, in pixels."""
    margin: float = 1.0
    """Of the triplet loss."""


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
        triplet = F.relu(options.margin + distance - nearest)
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
