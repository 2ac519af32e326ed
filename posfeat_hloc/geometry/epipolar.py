"""Epipolar lines of pixels, distances to them, and the part of a line that lies in an image.

Elementwise arithmetic only: under autocast a matrix product would round pixels to bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor


def epipolar_lines(points0: Tensor, fundamental: Tensor) -> Tensor:
    """The lines F x0 in image 1 that correspond to points of image 0.

    Args:
        points0: ``(B, N, 2)`` (x, y) pixels of image 0.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels, of any scale. Its transpose gives the lines of the
            points of image 1 in image 0.

    Returns:
        ``(B, N, 3)``: a x + b y + c = 0 with a^2 + b^2 = 1. The epipole has no line; it gets zeros, to which every
        point has distance zero.
    """
    matrix = fundamental / torch.linalg.matrix_norm(fundamental, keepdim=True).clamp_min(1e-30)
    points = torch.cat([points0, torch.ones_like(points0[..., :1])], dim=-1)
    terms = matrix[:, None] * points[:, :, None]
    lines = terms.sum(dim=-1)
    norm = torch.linalg.vector_norm(lines[..., :2], dim=-1, keepdim=True)
    rounding = 4 * torch.finfo(lines.dtype).eps * terms[..., :2, :].abs().sum(dim=(-2, -1))[..., None]
    return torch.where(norm > rounding, lines / norm.clamp_min(1e-30), 0)


def line_distances(points: Tensor, lines: Tensor) -> Tensor:
    """Distances in pixels (PoSFeat eq. 6) of points ``(..., 2)`` to normalised lines ``(..., 3)``, broadcast."""
    return (points[..., 0] * lines[..., 0] + points[..., 1] * lines[..., 1] + lines[..., 2]).abs()


def symmetric_distances(points0: Tensor, points1: Tensor, fundamental: Tensor) -> tuple[Tensor, Tensor]:
    """Epipolar distances of all pairs of points, measured in either image.

    Args:
        points0, points1: ``(B, N, 2)`` and ``(B, M, 2)`` pixels.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0.

    Returns:
        ``(B, N, M)`` pixels in image 0 (point i to the line of point j) and in image 1 (point j to the line of i).
    """
    lines0 = epipolar_lines(points1, fundamental.transpose(1, 2))
    lines1 = epipolar_lines(points0, fundamental)
    return (
        line_distances(points0[:, :, None], lines0[:, None]),
        line_distances(points1[:, None], lines1[:, :, None]),
    )


def clip_lines(lines: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The end points of lines in an image, whose border runs through the centres of its outermost pixels.

    The two slabs 0 <= x <= width - 1 and 0 <= y <= height - 1 each cut an interval out of the line.

    Args:
        lines: ``(B, N, 3)`` normalised.
        image_size: (height, width) in pixels.

    Returns:
        end points ``(B, N, 2, 2)`` (which end, x or y), and valid ``(B, N)`` bool: the line crosses the border at
        two different points, 0.001 px apart at least. Both ends of an invalid line are the centre of the image.
    """
    normal, offset = lines[..., :2], lines[..., 2:]
    half = (lines.new_tensor([image_size[1], image_size[0]]) - 1) / 2
    # the line is foot + t * direction, seen from the centre of the image
    foot = -normal * ((normal * half).sum(dim=-1, keepdim=True) + offset)
    direction = torch.stack([normal[..., 1], -normal[..., 0]], dim=-1)
    parallel = direction == 0
    step = torch.where(parallel, 1, direction)
    low, high = ((torch.copysign(half, sign * step) - foot) / step for sign in (-1, 1))
    outside = foot.abs() > half
    low = torch.where(parallel, torch.where(outside, torch.inf, -torch.inf), low).amax(dim=-1)
    high = torch.where(parallel, torch.inf, high).amin(dim=-1)
    valid = (high - low > 1e-3) & ~parallel.all(dim=-1)
    t = torch.where(valid[..., None], torch.stack([low, high], dim=-1), 0)
    ends = torch.where(valid[..., None, None], foot[..., None, :] + t[..., None] * direction[..., None, :], 0)
    return ends + half, valid


def points_between(ends: Tensor, count: int) -> Tensor:
    """``(B, N, count, 2)`` points at equal distances from one to the other end of ``(B, N, 2, 2)``, ends included."""
    weights = torch.linspace(0, 1, count, dtype=ends.dtype, device=ends.device)[:, None]
    return torch.lerp(ends[..., :1, :], ends[..., 1:, :], weights)
