"""Reading a map between its cells, against the four corners weighted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.interpolation import UpsampledConvolution, interpolate_cells


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 7))
def test_bilinear_by_hand(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(3, height, width)).astype(np.float32)
    cells = rng.uniform(-1.5, [width + 0.5, height + 0.5], size=(8, 2)).astype(np.float32)
    read = interpolate_cells(torch.from_numpy(dense), torch.from_numpy(cells)).numpy()
    for (x, y), values in zip(cells, read, strict=True):
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
        left, top = int(x), int(y)
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        upper = (1 - (x - left)) * dense[:, top, left] + (x - left) * dense[:, top, right]
        lower = (1 - (x - left)) * dense[:, bottom, left] + (x - left) * dense[:, bottom, right]
        np.testing.assert_allclose(values, (1 - (y - top)) * upper + (y - top) * lower, atol=1e-5)


def upsampled_then_convolved(x: Tensor, weight: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    upsampled = F.interpolate(x.double(), size, mode="bilinear", align_corners=align_corners)
    return F.conv2d(upsampled, weight.double(), padding=1)


@pytest.mark.parametrize("align_corners", [True, False])
@settings(deadline=None, max_examples=30)
@given(h=st.integers(1, 9), w=st.integers(1, 12), factor=st.sampled_from([1, 2, 4]), data=st.data())
def test_rows_of_the_convolution(align_corners: bool, h: int, w: int, factor: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, h * factor - 1))
    high = data.draw(st.integers(low + 1, h * factor))
    x, weight, bias = torch.randn(1, 4, h, w), torch.randn(3, 4, 3, 3), torch.randn(3)
    size = (h * factor, w * factor)
    expected = upsampled_then_convolved(x, weight, size, align_corners)[:, :, low:high] + bias[:, None, None]
    found = UpsampledConvolution(x, weight, size, align_corners).rows(low, high, bias)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [(37, 50), (20, 19)])
def test_sizes_that_are_no_multiples(size: tuple[int, int]) -> None:
    x, weight = torch.randn(1, 4, 9, 11), torch.randn(3, 4, 3, 3)
    found = UpsampledConvolution(x, weight, size, False).rows(0, size[0], torch.zeros(3))
    torch.testing.assert_close(found, upsampled_then_convolved(x, weight, size, False).float(), rtol=1e-4, atol=2e-5)


def test_half_precision_rounds_as_a_convolution_in_half_precision_does() -> None:
    x, weight = torch.randn(1, 64, 12, 10).bfloat16(), torch.randn(32, 64, 3, 3) / 24
    exact = upsampled_then_convolved(x, weight, (48, 40), False)
    found = UpsampledConvolution(x, weight, (48, 40), False).rows(0, 48, torch.zeros(32))
    direct = F.conv2d(F.interpolate(x, (48, 40), mode="bilinear"), weight.bfloat16(), padding=1)
    assert found.dtype == torch.bfloat16
    assert (found - exact).square().mean() < 1.2 * (direct - exact).square().mean()
