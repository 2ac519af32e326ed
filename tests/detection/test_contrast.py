"""Contrast in closed form, of noise, and of nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.detection.contrast import ABOVE_NOISE, VISIBLE, contrast, textured


@given(edge=st.integers(8, 24), across=st.booleans(), c=st.floats(0.01, 0.5), base=st.floats(0.0, 0.5))
def test_a_straight_step_measures_its_contrast(edge: int, across: bool, c: float, base: float) -> None:
    image = torch.full((1, 3, 32, 32), base)
    image[..., edge:] += c
    found = contrast(image.transpose(-1, -2) if across else image)
    assert found.max().item() == pytest.approx(c, rel=0.26)  # the least where a cell straddles the step
    if edge % 2 == 0:
        assert found.max().item() == pytest.approx(c, rel=1e-3)


@given(grey=st.integers(0, 255), slope=st.floats(-1.0, 1.0), height=st.integers(1, 40), width=st.integers(1, 40))
def test_flat_and_evenly_shaded_images_have_none(grey: int, slope: float, height: int, width: int) -> None:
    flat = torch.full((1, 1, height, width), grey / 255)
    assert not textured(flat, VISIBLE).any()
    shaded = 0.5 + slope / 255 * torch.arange(width).expand(1, 1, height, width)
    inside = textured(shaded, VISIBLE, reach=2)[..., 8:-8]  # borders are repeated: there the shading has a kink
    assert not inside.any()


def test_a_single_grey_level_is_seen_and_found_where_it_is() -> None:
    image = torch.full((1, 1, 60, 81), 0.5)
    image[..., 40:] += 1 / 255
    found = textured(image, VISIBLE)[0]
    columns = found.any(dim=0).nonzero()[:, 0]
    assert found.shape == (60, 81)
    assert found[:, 38:42].all()
    assert columns.min() >= 30
    assert columns.max() <= 49


@pytest.mark.parametrize(("channels", "deviation"), [(1, 1.0), (3, 1.5)])
def test_noise_is_none(channels: int, deviation: float) -> None:
    rng = np.random.default_rng(0)
    noise = np.round(rng.normal(128, deviation, (1, channels, 480, 640)))
    image = torch.from_numpy(noise / 255).float()
    assert textured(image, ABOVE_NOISE).float().mean() < 1e-3
    assert contrast(image).median().item() * 255 == pytest.approx(2.14 * deviation / channels**0.5, rel=0.05)
