"""Two cameras, and dense maps read slowly: what the tests of the training losses compare with."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def two_cameras(seed: int, image_size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Projection matrices of two cameras that look at the same place, and their fundamental matrix (scaled to 1)."""
    rng = np.random.default_rng(seed)
    height, width = image_size
    intrinsics = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])
    rotation = cv2.Rodrigues(rng.uniform(-0.15, 0.15, 3))[0]
    translation = rng.uniform(-0.5, 0.5, 3)
    x, y, z = translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    inverse = np.linalg.inv(intrinsics)
    matrix = inverse.T @ essential @ inverse
    cameras = [np.c_[np.eye(3), np.zeros(3)], np.c_[rotation, translation]]
    return intrinsics @ cameras[0], intrinsics @ cameras[1], matrix / np.linalg.norm(matrix)


def fundamentals(seed: int, batch: int, image_size: tuple[int, int]) -> Tensor:
    """``(batch, 3, 3)`` float64."""
    return torch.from_numpy(np.stack([two_cameras(seed * 100 + i, image_size)[2] for i in range(batch)]))


def distance_by_hand(point0: Array, point1: Array, matrix: Array) -> float:
    """Pixels from point 1 to the epipolar line of point 0."""
    a, b, c = matrix @ np.array([point0[0], point0[1], 1.0])
    return float(abs(a * point1[0] + b * point1[1] + c) / np.hypot(a, b))


def cell_by_hand(pixel: float, size: int, cells: int, grid_alignment: str) -> float:
    """Where a pixel lies on an axis of the map, in cells."""
    return pixel / (size - 1) * cells - 0.5 if grid_alignment == "published" else pixel / (size // cells)


def read_by_hand(
    dense: Array, x: float, y: float, image_size: tuple[int, int], grid_alignment: str, padding: str = "zeros"
) -> Array:
    """Bilinear value of a ``(D, h, w)`` map at one pixel, cell by cell."""
    rows, columns = dense.shape[1:]
    column = cell_by_hand(x, image_size[1], columns, grid_alignment)
    row = cell_by_hand(y, image_size[0], rows, grid_alignment)
    if padding == "border":
        column, row = min(max(column, 0), columns - 1), min(max(row, 0), rows - 1)
    value = np.zeros(len(dense))
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= r < rows and 0 <= c < columns:
                value += max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c)) * dense[:, r, c]
    return value


def unit(vectors: Array, axis: int = 0) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=axis, keepdims=True))


def random_maps(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def place_maps(batch: int, rows: int, columns: int, width: float = 3.0) -> Tensor:
    """Maps whose descriptors are smooth and tell places apart: one Gaussian bump of the cell's position a channel."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([x, y], dim=-1).reshape(-1, 2).double()
    bumps = (-(torch.cdist(cells, cells) ** 2) / (2 * width**2)).exp()
    return bumps.reshape(1, rows * columns, rows, columns).repeat(batch, 1, 1, 1)
