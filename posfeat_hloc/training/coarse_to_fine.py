"""CAPS's coarse-to-fine search, the alternative PoSFeat compares its own with (PoSFeat 4.3, Model 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.detection.sampling import cells_to_pixels
from posfeat_hloc.geometry.epipolar import epipolar_lines, line_distances
from posfeat_hloc.training.correspondence import Correspondence, cosine_volume, describe, expectation, search_window


@dataclass(frozen=True)
class CoarseToFineOptions:
    """How a correspondence is searched; the defaults are those of CAPS but for the cosines.

    CAPS multiplies descriptors of any length; here they are normalised and multiplied by the temperature as in the
    line-to-window search, so that only the search differs.
    """

    window: float = 0.125
    """Side of the window as a part of the image (PoSFeat's own search: 0.1)."""
    inverse_temperature: float = 60.0
    """Cosines are multiplied by this before the softmax, at both levels."""
    centre: str = "nearest"
    """Centre of the window: the most similar coarse cell (``nearest``) or the coarse ``expectation``."""
    sigma: str = "official-code"
    """``official-code``: sum of standard deviations, as in CAPS; ``paper``: norm of the variances (PoSFeat eq. 8)."""
    min_variance: float = 1e-10
    """Lower limit of a variance in normalised coordinates."""
    grid_alignment: str = "published"
    """Where the cells of the maps lie; see :data:`posfeat_hloc.networks.posfeat.GRID_ALIGNMENTS`."""


def coarse_to_fine(
    points0: Tensor,
    maps0: tuple[Tensor, Tensor],
    maps1: tuple[Tensor, Tensor],
    fundamental: Tensor,
    image_size: tuple[int, int],
    options: CoarseToFineOptions,
) -> tuple[Correspondence, Correspondence]:
    """Search the partners in image 1 of points of image 0, coarsely everywhere, then finely in a window.

    Each level has its own sigma and is trained by its own loss; no gradient flows from the fine level through the
    centre of the window. The largest array is the fine :func:`~posfeat_hloc.training.correspondence.cosine_volume`.

    Args:
        points0: ``(B, N, 2)`` pixels of image 0.
        maps0, maps1: (global map ``(B, D, h/4, w/4)``, local map ``(B, D', h, w)``) of each image, not normalised.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        image_size: (height, width) of both images in pixels.
        options: of the search.

    Returns:
        the coarse correspondence, valid everywhere, and the fine one, valid where the coarse one is closer to the
        epipolar line than ``window`` times the shorter edge: elsewhere the partner is hardly in the window.

    Raises:
        ValueError: unknown ``centre``.
    """
    if options.centre not in ("nearest", "expectation"):
        raise ValueError(f"centre must be 'nearest' or 'expectation', not {options.centre!r}")
    coarse_volume, fine_volume = (
        cosine_volume(describe(map0, points0, image_size, options.grid_alignment), map1)
        for map0, map1 in zip(maps0, maps1, strict=True)
    )
    rows, columns = coarse_volume.shape[2:]
    x, y = (torch.arange(n, device=points0.device, dtype=coarse_volume.dtype) for n in (columns, rows))
    cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    positions = cells_to_pixels(cells, (rows, columns), image_size, options.grid_alignment)
    cosines = coarse_volume.flatten(2)
    coarse, coarse_sigma = expectation(
        options.inverse_temperature * cosines, positions, image_size, options.sigma, options.min_variance
    )
    centres = coarse.detach() if options.centre == "expectation" else positions[cosines.argmax(dim=-1)]
    fine, fine_sigma = search_window(
        fine_volume,
        centres,
        image_size,
        options.window,
        options.inverse_temperature,
        options.sigma,
        options.min_variance,
        options.grid_alignment,
    )
    with torch.no_grad():
        distances = line_distances(coarse, epipolar_lines(points0, fundamental))
    return (
        Correspondence(coarse, coarse_sigma, torch.ones_like(distances, dtype=torch.bool)),
        Correspondence(fine, fine_sigma, distances < options.window * min(image_size)),
    )
