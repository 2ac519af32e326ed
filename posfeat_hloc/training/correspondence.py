"""Differentiable correspondences, and PoSFeat's description loss on epipolar lines (eqs. 4-8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import sample_map
from posfeat_hloc.geometry.epipolar import epipolar_lines, line_distances


@dataclass(frozen=True)
class Correspondence:
    """Estimated positions of points of image 0 in image 1.

    Attributes:
        points: ``(B, N, 2)`` (x, y) pixels of image 1; carry the gradient. Finite also where not valid.
        sigma: ``(B, N)`` spread of the probability in normalised coordinates, in which the image spans [-1, 1]; a
            constant without gradient, since it only weights the loss.
        valid: ``(B, N)`` bool, whether the search could be made.
    """

    points: Tensor
    sigma: Tensor
    valid: Tensor


def describe(dense: Tensor, pixels: Tensor, image_size: tuple[int, int], grid_alignment: str) -> Tensor:
    """Unit descriptors ``(B, N, D)`` of a map ``(B, D, h, w)`` at pixels ``(B, N, 2)``; see sample_map."""
    return F.normalize(sample_map(dense, pixels, image_size, grid_alignment), dim=-1)


def cosine_volume(queries: Tensor, dense: Tensor, normalized: bool = True) -> Tensor:
    """Products of descriptors with every cell of a map; cosines where both are normalised.

    Bilinear reading is linear, so a position read from this volume is the product with the descriptor read there. One
    volume serves the search on the line and in the window. It is the largest array of a training step: B N h w
    floats, 0.7 GB for 8 pairs of 640 x 480 with 1200 points; descriptors gathered for 100 points on a line and 192
    in a window would take twice as much.

    Args:
        queries: ``(B, N, D)``, unit vectors for cosines.
        dense: ``(B, D, h, w)``.
        normalized: normalise the cells here, for cosines.

    Returns:
        ``(B, N, h, w)``, float32 at least.
    """
    with torch.autocast(queries.device.type, enabled=False):
        cells = dense.to(torch.promote_types(dense.dtype, torch.float32))
        cells = (F.normalize(cells, dim=1) if normalized else cells).flatten(2)
        return (queries.to(cells.dtype) @ cells).unflatten(2, dense.shape[2:])


def read_volume(
    volume: Tensor, pixels: Tensor, image_size: tuple[int, int], grid_alignment: str, padding: str = "zeros"
) -> Tensor:
    """Read each query's own map of a volume ``(B, N, h, w)`` at its own pixels ``(B, N, K, 2)``: ``(B, N, K)``."""
    read = sample_map(volume.flatten(0, 1)[:, None], pixels.flatten(0, 1), image_size, grid_alignment, padding)
    return read[..., 0].unflatten(0, volume.shape[:2])


def expectation(
    logits: Tensor,
    positions: Tensor,
    image_size: tuple[int, int],
    sigma: str = "paper",
    min_variance: float = 1e-10,
) -> tuple[Tensor, Tensor]:
    """The mean and the spread of positions under softmax(logits) (PoSFeat eqs. 4, 5, 8).

    Args:
        logits: ``(B, N, K)``.
        positions: ``(K, 2)`` pixels, which may be relative to the centre of a window.
        image_size: (height, width) in pixels.
        sigma: ``paper``: the norm of the variances along x and y (eq. 8); ``official-code``: the sum of the standard
            deviations (the authors' code, CAPS). Both in normalised coordinates.
        min_variance: lower limit of either variance, so that certainty has a finite weight.

    Returns:
        mean ``(B, N, 2)`` pixels, and sigma ``(B, N)`` without gradient.
    """
    if sigma not in ("paper", "official-code"):
        raise ValueError(f"sigma must be 'paper' or 'repository', not {sigma!r}")
    probabilities = logits.softmax(dim=-1)[..., None]
    mean = (probabilities * positions).sum(dim=-2)
    with torch.no_grad():
        half = (mean.new_tensor([image_size[1], image_size[0]]) - 1) / 2
        # around the mean: the difference of E(y^2) and E(y)^2 loses all digits of a sharp distribution
        variance = (probabilities * ((positions - mean[..., None, :]) / half) ** 2).sum(dim=-2).clamp_min(min_variance)
        spread = torch.linalg.vector_norm(variance, dim=-1) if sigma == "paper" else variance.sqrt().sum(dim=-1)
    return mean, spread


@dataclass(frozen=True)
class WindowOptions:
    """The search in a window, which all searches end with; the defaults are the paper's."""

    window: float = 0.1
    """Side of the window as a part of the image (w_patch); half its side in normalised coordinates."""
    inverse_temperature: float = 60.0
    """Cosines are multiplied by this before the softmax."""
    sigma: str = "paper"
    """``paper``: norm of the variances (eq. 8); ``official-code``: sum of the standard deviations, as in CAPS."""
    min_variance: float = 1e-10
    """Lower limit of a variance in normalised coordinates, from the authors' code. It is so low that a single point, if
    its softmax is saturated, can outweigh a whole batch; the spacing of the window's points suggests 1e-5."""
    grid_alignment: str = "published"
    """Where the cells of the map lie; see :data:`posfeat_hloc.networks.posfeat.GRID_ALIGNMENTS`."""


def search_window(
    volume: Tensor, centres: Tensor, image_size: tuple[int, int], options: WindowOptions
) -> tuple[Tensor, Tensor]:
    """The expected position in a window around each centre (PoSFeat eqs. 4, 5).

    Args:
        volume: ``(B, N, h, w)`` cosines; the gradient flows into it.
        centres: ``(B, N, 2)`` pixels.
        image_size: (height, width) in pixels.
        options: the window is read at int(window h) x int(window w) points, outermost ones included; beyond the map the
            cosine is zero.

    Returns:
        positions ``(B, N, 2)`` pixels and sigma ``(B, N)``.

    Raises:
        ValueError: the map is so small that the window has less than two points along an axis.
    """
    window = options.window
    rows, columns = (int(window * cells) for cells in volume.shape[2:])
    if min(rows, columns) < 2:
        raise ValueError(f"a window of {window} of a map of {tuple(volume.shape[2:])} has less than 2 x 2 points")
    steps = (torch.linspace(-window, window, n, dtype=centres.dtype, device=centres.device) for n in (columns, rows))
    half = (centres.new_tensor([image_size[1], image_size[0]]) - 1) / 2
    offsets = torch.stack(torch.meshgrid(*steps, indexing="xy"), dim=-1).flatten(0, 1) * half
    cosines = read_volume(volume, centres[:, :, None] + offsets, image_size, options.grid_alignment)
    logits = options.inverse_temperature * cosines
    mean, spread = expectation(logits, offsets, image_size, options.sigma, options.min_variance)
    return centres + mean, spread


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
