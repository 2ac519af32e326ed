"""Peaks of the Hessian determinant against closed forms of Gaussian blobs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.detection.hessian import hessian_determinant, peaks


def blob(x: float, y: float, deviation: float, size: tuple[int, int] = (61, 57)) -> torch.Tensor:
    """exp(-r^2 / 2 d^2) around (x, y), ``(1, 1, H, W)``."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    values = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * deviation**2))
    return torch.tensor(values, dtype=torch.float32)[None, None]


@pytest.mark.parametrize(("deviation", "sigma"), [(2.0, 1.5), (3.0, 2.0), (4.0, 1.0)])
def test_the_determinant_of_a_blob(deviation: float, sigma: float) -> None:
    """Smoothing a blob of deviation d gives d^2/(d^2+s^2) exp(-r^2 / 2(d^2+s^2)), whose I_xx and I_yy are known."""
    variance = deviation**2 + sigma**2
    rows, columns = np.mgrid[:61, :57]
    u, v = columns - 28.0, rows - 30.0
    smooth = deviation**2 / variance * np.exp(-(u * u + v * v) / (2 * variance))
    xx, yy = smooth * (u * u / variance - 1) / variance, smooth * (v * v / variance - 1) / variance
    xy = smooth * u * v / variance**2
    expected = sigma**4 * np.maximum(xx * yy - xy * xy, 0)
    found = hessian_determinant(blob(28, 30, deviation), sigma)[0].numpy()
    np.testing.assert_allclose(found[8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.03 * expected.max())


@settings(max_examples=25, deadline=None)
@given(x=st.floats(20, 36), y=st.floats(20, 40), deviation=st.floats(1.5, 4))
def test_a_blob_is_found_to_a_tenth_of_a_pixel(x: float, y: float, deviation: float) -> None:
    response = hessian_determinant(blob(x, y, deviation))[0]
    positions, values = peaks(response)
    best = positions[values.argmax()].numpy()
    np.testing.assert_allclose(best, [x, y], atol=0.1)


def test_the_summit_of_a_quadratic_is_exact() -> None:
    rows, columns = np.mgrid[:15, :17]
    x, y = 7.3, 5.8
    u, v = columns - x, rows - y
    response = torch.tensor(9 - 0.3 * u * u - 0.1 * v * v - 0.2 * u * v, dtype=torch.float64).clamp_min(0)
    positions, values = peaks(response, radius=3)
    best = values.argmax()
    np.testing.assert_allclose(positions[best].numpy(), [x, y], atol=1e-5)
    assert values[best] == response.max()


def test_peaks_are_the_largest_in_their_neighbourhood() -> None:
    response = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    for radius in (1, 2, 4):
        positions, values = peaks(response, radius)
        expected = {
            (x, y)
            for y in range(1, 39)
            for x in range(1, 49)
            if response[y, x]
            == response[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].max()
        }
        assert len(values) == len(expected)
        found = positions.double().tolist()
        off = [min(max(abs(x - a), abs(y - b)) for x, y in found) for a, b in expected]
        assert max(off) <= 0.5


def test_flat_images_straight_edges_and_tiny_maps_have_no_peaks() -> None:
    assert hessian_determinant(torch.full((2, 1, 30, 30), 0.7)).max() == 0
    edge = torch.zeros(1, 1, 40, 40)
    edge[..., 20:] = 1
    assert hessian_determinant(edge).max() == 0
    for height, width in ((1, 1), (2, 9), (9, 2)):
        assert len(peaks(torch.rand(height, width))[0]) == 0
    assert len(peaks(torch.zeros(20, 20))[0]) == 0


def test_a_turned_image_has_turned_peaks() -> None:
    image = torch.rand(1, 1, 50, 64, generator=torch.Generator().manual_seed(1))
    upright, _ = peaks(hessian_determinant(image)[0])
    turned, _ = peaks(hessian_determinant(image.transpose(2, 3).flip(3))[0])  # a quarter turn: (x, y) -> (49 - y, x)
    expected = {(round(49 - y, 2), round(x, 2)) for x, y in upright.double().tolist()}
    found = {(round(x, 2), round(y, 2)) for x, y in turned.double().tolist()}
    assert len(upright) > 50
    assert len(expected & found) > 0.97 * len(expected)


def test_a_radius_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        peaks(torch.rand(9, 9), 0)


def test_peaks_suppress_what_is_two_pixels_away_and_no_further() -> None:
    response = torch.zeros(12, 20)
    response[5, [4, 6]] = torch.tensor([1.0, 0.8])
    response[5, [12, 15]] = torch.tensor([1.0, 0.8])
    positions, _ = peaks(response)
    assert sorted(round(x) for x in positions[:, 0].tolist()) == [4, 12, 15]
