"""PoSFeat's description loss: found correspondences lie on their epipolar lines (eqs. 6-8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.geometry.epipolar import epipolar_lines, line_distances
from posfeat_hloc.training.correspondence import Correspondence


@dataclass(frozen=True)
class DescriptionLoss:
    """What a training step minimises and what its log shows.

    Attributes:
        total: scalar with gradient, pixels.
        used: scalar, the share of the points that counted.
    """

    total: Tensor
    used: Tensor


def epipolar_loss(
    points0: Tensor,
    found: Correspondence,
    fundamental: Tensor,
    image_size: tuple[int, int],
    max_distance: float = 0.1,
) -> DescriptionLoss:
    """The weighted mean distance of correspondences to their epipolar lines (PoSFeat eqs. 6-7), one direction.

    Weights are 1 / sigma, constants; sums run over all valid points of the batch. Without any, the loss is zero.

    Args:
        points0: ``(B, N, 2)`` pixels of image 0.
        found: their correspondences in image 1.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        image_size: (height, width) of image 1 in pixels.
        max_distance: points farther from their line do not count; a part of the shorter edge (CAPS: 0.5).
    """
    distances = line_distances(found.points, epipolar_lines(points0, fundamental))
    mask = found.valid & (distances.detach() <= max_distance * min(image_size))
    weights = torch.where(mask, 1 / found.sigma.detach(), 0)
    total = (weights * distances).sum() / weights.sum().clamp_min(1e-10)
    return DescriptionLoss(total, mask.float().mean())


def description_loss(
    points0: Tensor,
    points1: Tensor,
    found0: Correspondence,
    found1: Correspondence,
    fundamental: Tensor,
    image_size: tuple[int, int],
    max_distance: float = 0.1,
) -> DescriptionLoss:
    """The sum of :func:`epipolar_loss` in both directions.

    Args:
        points0, points1: ``(B, N, 2)`` and ``(B, M, 2)`` query points of images 0 and 1, pixels.
        found0: partners of ``points0`` in image 1.
        found1: partners of ``points1`` in image 0.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        image_size: (height, width) of both images in pixels.
        max_distance: see :func:`epipolar_loss`.
    """
    forth = epipolar_loss(points0, found0, fundamental, image_size, max_distance)
    back = epipolar_loss(points1, found1, fundamental.transpose(1, 2), image_size, max_distance)
    return DescriptionLoss(forth.total + back.total, (forth.used + back.used) / 2)
