"""Reading a dense map at pixel positions, under the two conventions for the positions of its cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.posfeat import GRID_ALIGNMENTS
from posfeat_hloc.networks.resunet import STRIDE


def read_descriptors(local_map: Tensor, keypoints: Tensor, grid_alignment: str) -> Tensor:
    """Read one of PoSFeat's maps at keypoints.

    The published convention reads zeros beyond the map. The consistent one holds the outermost cells there.

    Args:
        local_map: ``(D, h, w)``, of an image of 4h x 4w pixels.
        keypoints: ``(N, 2)`` (x, y) in pixels of that image.
        grid_alignment: one of ``GRID_ALIGNMENTS``.

    Returns:
        ``(N, D)`` float32, L2-normalised.
    """
    size = (STRIDE * local_map.shape[1], STRIDE * local_map.shape[2])
    padding = "zeros" if grid_alignment == "published" else "border"
    return F.normalize(sample_map(local_map[None], keypoints[None], size, grid_alignment, padding)[0].float(), dim=1)


def sample_map(
    dense: Tensor,
    pixels: Tensor,
    image_size: tuple[int, int],
    grid_alignment: str = "published",
    padding: str = "zeros",
) -> Tensor:
    """Read a dense map bilinearly at pixel positions; the values are not normalised.

    Args:
        dense: ``(B, D, h, w)``.
        pixels: ``(B, N, 2)`` (x, y) of the image, ``(0, 0)`` is the centre of the top-left pixel.
        image_size: (height, width) of the image that the map was computed from.
        grid_alignment: one of :data:`posfeat_hloc.networks.posfeat.GRID_ALIGNMENTS`.
        padding: what lies beyond the outermost cells: ``"zeros"`` or the nearest cell, ``"border"``.

    Returns:
        ``(B, N, D)`` in the wider type of both inputs, float32 at least: bfloat16 cannot tell pixel 600 from 601.

    Raises:
        ValueError: unknown grid alignment, or a consistent reading of a map whose size does not divide the image's.
    """
    dtype = torch.promote_types(torch.promote_types(dense.dtype, pixels.dtype), torch.float32)
    cells = pixels_to_cells(pixels.to(dtype), (dense.shape[2], dense.shape[3]), image_size, grid_alignment)
    grid = (2 * cells + 1) / _width_height(dense.shape[2:], cells) - 1
    read = F.grid_sample(dense.to(dtype), grid[:, :, None], padding_mode=padding, align_corners=False)
    return read[..., 0].transpose(1, 2)


def pixels_to_cells(
    pixels: Tensor, map_size: tuple[int, int], image_size: tuple[int, int], grid_alignment: str
) -> Tensor:
    """Map coordinates, in which cell i is at i, of pixels ``(..., 2)`` (x, y); the inverse: cells_to_pixels.

    Args:
        pixels: ``(..., 2)``.
        map_size, image_size: (height, width) in cells and in pixels.
        grid_alignment: one of :data:`posfeat_hloc.networks.posfeat.GRID_ALIGNMENTS`.
    """
    scale, offset = _scale_offset(map_size, image_size, grid_alignment, pixels)
    return pixels * scale + offset


def cells_to_pixels(
    cells: Tensor, map_size: tuple[int, int], image_size: tuple[int, int], grid_alignment: str
) -> Tensor:
    """Pixels ``(..., 2)`` at which :func:`sample_map` reads the map coordinates ``(..., 2)`` (x, y)."""
    scale, offset = _scale_offset(map_size, image_size, grid_alignment, cells)
    return (cells - offset) / scale


def _scale_offset(
    map_size: tuple[int, int], image_size: tuple[int, int], grid_alignment: str, like: Tensor
) -> tuple[Tensor, float]:
    cells, pixels = _width_height(map_size, like), _width_height(image_size, like)
    if grid_alignment == "published":
        return cells / (pixels - 1), -0.5
    if grid_alignment != "consistent":
        raise ValueError(f"grid_alignment must be one of {', '.join(GRID_ALIGNMENTS)}, not {grid_alignment!r}")
    strides = {divmod(image, cell) for image, cell in zip(image_size, map_size, strict=True)}
    if len(strides) > 1 or any(rest for _, rest in strides):
        raise ValueError(f"an image of {image_size} is not a multiple of its map of {map_size}; crop or pad it")
    return cells / pixels, 0.0


def _width_height(size: tuple[int, int] | torch.Size, like: Tensor) -> Tensor:
    return torch.tensor([size[1], size[0]], dtype=like.dtype, device=like.device)
