"""Reading dense maps against bilinear interpolation cell by cell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import (
    GRID_ALIGNMENTS,
    cells_to_pixels,
    pixels_to_cells,
    read_descriptors,
    sample_map,
)
from tests.training.two_views import random_maps, read_by_hand, seeded


@given(
    seed=st.integers(0, 2**31),
    cells=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=st.sampled_from([2, 4, 16]),
    grid_alignment=st.sampled_from(GRID_ALIGNMENTS),
    padding=st.sampled_from(["zeros", "border"]),
)
def test_values_are_those_of_the_loop(seed, cells, stride, grid_alignment, padding):
    size = (cells[0] * stride, cells[1] * stride)
    dense = random_maps(seed, 2, 3, *cells)
    spread = torch.tensor([size[1], size[0]]) * 1.4
    pixels = torch.rand(2, 5, 2, generator=seeded(seed), dtype=torch.float64) * spread - 0.2 * spread
    read = sample_map(dense, pixels, size, grid_alignment, padding)
    for b in range(2):
        for n in range(5):
            x, y = pixels[b, n].tolist()
            expected = read_by_hand(dense[b].numpy(), x, y, size, grid_alignment, padding)
            np.testing.assert_allclose(read[b, n], expected, atol=1e-10)


@pytest.mark.parametrize("stride", [4, 16])
def test_consistent_reading_finds_the_cells(stride):
    dense = random_maps(0, 1, 2, 5, 7)
    pixels = torch.tensor([[[3.0 * stride, 2.0 * stride], [0, 0], [6.0 * stride, 4.0 * stride]]]).double()
    read = sample_map(dense, pixels, (5 * stride, 7 * stride), "consistent")
    torch.testing.assert_close(read[0], torch.stack([dense[0, :, 2, 3], dense[0, :, 0, 0], dense[0, :, 4, 6]]))


def test_published_corners_are_edges_of_the_map():
    corners = torch.tensor([[[0.0, 0], [63, 0], [63, 47], [31.5, 0], [31.5, 23.5]]])
    ones = torch.ones(1, 1, 12, 16)
    inside = sample_map(ones, corners, (48, 64), "published")[0, :, 0]
    torch.testing.assert_close(inside, torch.tensor([0.25, 0.25, 0.25, 0.5, 1]))
    torch.testing.assert_close(sample_map(ones, corners, (48, 64), "published", "border"), torch.ones(1, 5, 1))


@given(
    grid_alignment=st.sampled_from(GRID_ALIGNMENTS),
    cells=st.lists(st.tuples(st.floats(-3, 40), st.floats(-3, 40)), min_size=1, max_size=4),
)
def test_cells_and_pixels_are_inverse(grid_alignment, cells):
    xy = torch.tensor(cells, dtype=torch.float64)
    pixels = cells_to_pixels(xy, (30, 40), (120, 160), grid_alignment)
    torch.testing.assert_close(pixels_to_cells(pixels, (30, 40), (120, 160), grid_alignment), xy)


def test_cells_of_strided_convolutions_are_centred_where_the_consistent_reading_looks():
    image = torch.zeros(1, 1, 96, 128, requires_grad=True)
    x = F.conv2d(image, torch.ones(1, 1, 7, 7), stride=2, padding=3)
    x = F.avg_pool2d(x, 3, stride=2, padding=1)  # a max-pool sees the same pixels
    for stride in (4, 8, 16):
        row, column = 48 // stride, 64 // stride
        (weight,) = torch.autograd.grad(x[0, 0, row, column], image, retain_graph=True)
        seen = weight[0, 0] / weight.sum()
        centre = [(seen.sum(dim=0) * torch.arange(128)).sum(), (seen.sum(dim=1) * torch.arange(96)).sum()]
        size = (x.shape[2], x.shape[3])
        expected = cells_to_pixels(torch.tensor([column, row]).float(), size, (96, 128), "consistent")
        torch.testing.assert_close(torch.stack(centre), expected)
        x = F.conv2d(x, torch.ones(1, 1, 3, 3), stride=2, padding=1)


def test_pixels_survive_half_precision_maps():
    ramp = torch.arange(160.0).expand(1, 1, 120, 160)
    pixels = torch.tensor([[[600.0, 40], [601, 40], [602, 40]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = sample_map(ramp.bfloat16(), pixels, (480, 640), "consistent")
    assert read.dtype == torch.float32
    torch.testing.assert_close(read[0, :, 0], torch.tensor([150, 150.25, 150.5]))


def test_bad_arguments():
    dense, pixels = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="published, consistent"):
        sample_map(dense, pixels, (20, 20), "half")
    for size in ((21, 20), (20, 25), (21, 21)):
        with pytest.raises(ValueError, match="crop or pad"):
            sample_map(dense, pixels, size, "consistent")


def descriptor_by_hand(dense: np.ndarray, x: float, y: float, grid_alignment: str) -> np.ndarray:
    """Bilinear with zeros (published) or the outermost cells (consistent) beyond the border, in float64."""
    _, height, width = dense.shape
    if grid_alignment == "published":
        u, v = x * width / (4 * width - 1) - 0.5, y * height / (4 * height - 1) - 0.5
    else:
        u, v = min(x / 4, width - 1), min(y / 4, height - 1)
    total = np.zeros(len(dense))
    for j in (int(np.floor(v)), int(np.floor(v)) + 1):
        for i in (int(np.floor(u)), int(np.floor(u)) + 1):
            if 0 <= i < width and 0 <= j < height:
                total += (1 - abs(u - i)) * (1 - abs(v - j)) * dense[:, j, i]
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("grid_alignment", ["published", "consistent"])
@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 2**31))
def test_descriptors_are_those_of_the_loop(grid_alignment: str, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(16, height, width)).astype(np.float32)
    keypoints = (rng.uniform(0, 1, (8, 2)) * [4 * width - 1, 4 * height - 1]).astype(np.float32)
    found = read_descriptors(torch.from_numpy(dense), torch.from_numpy(keypoints), grid_alignment).numpy()
    expected = [descriptor_by_hand(dense, x, y, grid_alignment) for x, y in keypoints.astype(np.float64)]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_consistent_convention_has_cells_at_every_fourth_pixel() -> None:
    dense = torch.nn.functional.normalize(torch.randn(8, 3, 5), dim=0)
    found = read_descriptors(dense, torch.tensor([[8.0, 4.0], [16.0, 8.0], [19.0, 11.0]]), "consistent")
    torch.testing.assert_close(found, torch.stack([dense[:, 1, 2], dense[:, 2, 4], dense[:, 2, 4]]))


def test_no_keypoints_no_descriptors() -> None:
    assert read_descriptors(torch.randn(8, 3, 5), torch.zeros(0, 2), "published").shape == (0, 8)


def test_descriptors_of_unknown_conventions_are_refused() -> None:
    with pytest.raises(ValueError, match="not 'pixel'"):
        read_descriptors(torch.randn(8, 3, 5), torch.zeros(1, 2), "pixel")
