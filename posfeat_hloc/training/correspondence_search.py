"""Searches of correspondences: PoSFeat's line-to-window (eqs. 1-5), CAPS's coarse-to-fine (PoSFeat 4.3, Model 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.detection.sampling import cells_to_pixels, sample_map
from posfeat_hloc.geometry.epipolar import clip_lines, epipolar_lines, line_distances, points_between
from posfeat_hloc.training.correspondence import (
    Correspondence,
    WindowOptions,
    cosine_volume,
    describe,
    expectation,
    read_volume,
    search_window,
)


@dataclass(frozen=True)
class LineToWindowOptions(WindowOptions):
    """How a correspondence is searched; the defaults are the paper's, ``official-code`` is the authors' code."""

    line_points: int = 100
    """Points read on the epipolar line (N_line)."""
    similarity: str = "cosine"
    """``cosine``, as in the authors' code, or the raw ``product`` of eqs. 1 and 4, which goes with an
    ``inverse_temperature`` of 1."""
    noise: str = "paper"
    """How far the window is moved off the best point of the line: ``paper``, to the right and down by up to half
    its side (eq. 3); ``official-code``, to any side by up to 0.707 of half its side."""


def query_points(batch: int, image_size: tuple[int, int], generator: torch.Generator, cell: int = 16) -> Tensor:
    """One uniformly random pixel in each cell of a grid (PoSFeat 3.2, g_d = 16).

    Args:
        batch: number of images.
        image_size: (height, width) in pixels; what is left over at the right and bottom gets no point.
        generator: of the random numbers, drawn on its device.
        cell: side of a cell in pixels.

    Returns:
        ``(batch, N, 2)`` float32 (x, y) whole pixels, cells row by row.
    """
    rows, columns = image_size[0] // cell, image_size[1] // cell
    device = generator.device
    corner = torch.stack(
        torch.meshgrid(torch.arange(columns, device=device), torch.arange(rows, device=device), indexing="xy"), dim=-1
    )
    inside = torch.randint(cell, (batch, rows * columns, 2), generator=generator, device=device)
    return (corner.flatten(0, 1) * cell + inside).float()


def search_line(
    volume: Tensor, lines: Tensor, image_size: tuple[int, int], count: int = 100, grid_alignment: str = "published"
) -> tuple[Tensor, Tensor]:
    """The most similar of ``count`` uniform points on each epipolar line (PoSFeat eqs. 1-2), without gradient.

    The softmax of eq. 1 keeps the order of the cosines, so the arg-max is taken of the cosines themselves; of equal
    ones the first counts. Beyond the map the nearest cell is read.

    Args:
        volume: ``(B, N, h, w)`` cosines of the queries with the map of image 1.
        lines: ``(B, N, 3)`` normalised, in pixels of image 1.
        image_size: (height, width) of image 1 in pixels.
        count: points on a line, both end points included.
        grid_alignment: of the map.

    Returns:
        ``(B, N, 2)`` pixels, and ``(B, N)`` bool: the line crosses the border of the image twice.
    """
    with torch.no_grad():
        ends, valid = clip_lines(lines, image_size)
        candidates = points_between(ends, count)
        best = read_volume(volume, candidates, image_size, grid_alignment, padding="border").argmax(dim=-1)
        return candidates.gather(2, best[..., None, None].expand(-1, -1, 1, 2))[:, :, 0], valid


def move_windows(
    points: Tensor, image_size: tuple[int, int], options: LineToWindowOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Window centres: points with uniform noise, against the trivial solution F(x) = 0 (PoSFeat eq. 3).

    Args:
        points: ``(B, N, 2)`` pixels.
        image_size: (height, width) in pixels.
        options: ``window`` and ``noise``.
        generator: of the noise.

    Returns:
        ``(B, N, 2)`` pixels, and ``(B, N)`` bool: the centre lies in the image.

    Raises:
        ValueError: unknown ``noise``.
    """
    if options.noise not in ("paper", "official-code"):
        raise ValueError(f"noise must be 'paper' or 'repository', not {options.noise!r}")
    u = torch.rand(points.shape, generator=generator, device=generator.device).to(points)
    shift = u if options.noise == "paper" else 0.707 * (2 * u - 1)
    half = (points.new_tensor([image_size[1], image_size[0]]) - 1) / 2
    centres = points + options.window * half * shift
    return centres, ((centres >= 0) & (centres <= 2 * half)).all(dim=-1)


def line_to_window(
    points0: Tensor,
    local0: Tensor,
    local1: Tensor,
    fundamental: Tensor,
    image_size: tuple[int, int],
    options: LineToWindowOptions,
    generator: torch.Generator,
) -> Correspondence:
    """Search the partners in image 1 of points of image 0 (PoSFeat eqs. 1-5).

    The gradient flows through the cosines of the window into both maps. Swap the images and transpose ``fundamental``
    for the other direction. Memory: see :func:`~posfeat_hloc.training.correspondence.cosine_volume`.

    Args:
        points0: ``(B, N, 2)`` pixels of image 0.
        local0, local1: ``(B, D, h, w)`` maps of both images, not normalised.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        image_size: (height, width) of both images in pixels.
        options: of the search.
        generator: of the noise of the windows.

    Returns:
        the correspondence; valid where the line crosses the image and the centre of the window lies in it.

    Raises:
        ValueError: unknown ``similarity``.
    """
    if options.similarity not in ("cosine", "product"):
        raise ValueError(f"similarity must be 'cosine' or 'product', not {options.similarity!r}")
    cosine = options.similarity == "cosine"
    read: Callable[[Tensor, Tensor, tuple[int, int], str], Tensor] = describe if cosine else sample_map
    volume = cosine_volume(read(local0, points0, image_size, options.grid_alignment), local1, cosine)
    lines = epipolar_lines(points0, fundamental)
    best, on_line = search_line(volume, lines, image_size, options.line_points, options.grid_alignment)
    centres, inside = move_windows(best, image_size, options, generator)
    points, sigma = search_window(volume, centres, image_size, options)
    return Correspondence(points, sigma, on_line & inside)


@dataclass(frozen=True)
class CoarseToFineOptions(WindowOptions):
    """How a correspondence is searched; the defaults are those of CAPS but for the cosines.

    CAPS multiplies descriptors of any length; here they are normalised and multiplied by the temperature as in the
    line-to-window search, at both levels, so that only the search differs.
    """

    window: float = 0.125
    sigma: str = "official-code"
    centre: str = "nearest"
    """Centre of the window: the most similar coarse cell (``nearest``) or the coarse ``expectation``."""


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
    fine, fine_sigma = search_window(fine_volume, centres, image_size, options)
    with torch.no_grad():
        distances = line_distances(coarse, epipolar_lines(points0, fundamental))
    return (
        Correspondence(coarse, coarse_sigma, torch.ones_like(distances, dtype=torch.bool)),
        Correspondence(fine, fine_sigma, distances < options.window * min(image_size)),
    )
