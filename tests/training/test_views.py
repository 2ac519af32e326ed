"""Warps, points and light changes where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training.views import RandomMix, ViewPair, change_light, inside, transform, warp
from tests.networks.test_l2net import textured_image


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.round(textured_image(height, width, seed) * 255).astype(np.uint8)


def similarity(zoom: float, degrees: float, x: float, y: float) -> np.ndarray:
    cosine, sine = zoom * np.cos(np.deg2rad(degrees)), zoom * np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])


def test_transform_divides_by_the_third_coordinate() -> None:
    homography = np.array([[2.0, 0, 1], [0, 3, -2], [0.5, 0, 1]])
    points = np.array([[0.0, 0], [2, 4], [-1, 1]])
    expected = [[1, -2], [5 / 2, 10 / 2], [-1 / 0.5, 1 / 0.5]]
    np.testing.assert_allclose(transform(homography, points), expected)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_transform_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    homography = np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3)) * [[1, 1, 50], [1, 1, 50], [0.004, 0.004, 0]]
    points = rng.uniform(0, 100, (20, 2))
    there = transform(homography, points)
    np.testing.assert_allclose(transform(np.linalg.inv(homography), there), points, atol=1e-6)


def test_inside_counts_from_pixel_centres() -> None:
    points = np.array([[0, 0], [9, 4], [9.01, 2], [-0.01, 2], [3, 4.01], [2, 2]], float)
    assert inside(points, 10, 5).tolist() == [True, True, False, False, False, True]
    assert inside(points, 10, 5, margin=2).tolist() == [False, False, False, False, False, True]


def test_the_identity_and_whole_shifts_copy_pixels() -> None:
    image = photograph(60, 70)
    np.testing.assert_array_equal(warp(image, np.eye(3), 50), image[:50, :50])
    np.testing.assert_array_equal(warp(image, similarity(1, 0, 15, 8), 50), image[8:58, 15:65])


@pytest.mark.parametrize("degrees", [0, 30, -70])
@pytest.mark.parametrize("zoom", [0.6, 1.0, 1.7])
def test_a_view_shows_what_its_homography_says(zoom: float, degrees: float) -> None:
    """A slope is resampled exactly, so its grey values tell where each pixel came from."""
    y, x = np.mgrid[:200, :220].astype(float)
    homography = similarity(zoom, degrees, 110, 95) @ similarity(1, 0, -19.5, -19.5)
    homography[2, :2] = 4e-4, -3e-4
    rows, columns = np.mgrid[:40, :40]
    places = transform(homography, np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(40, 40, 2)
    for slope in (x, y):
        view = warp(np.round(slope).astype(np.uint8), homography, 40)
        expected = places[..., 0] if slope is x else places[..., 1]
        assert np.abs(view - expected).max() <= 0.75  # rounding to grey values and OpenCV's 1/32 pixel


def test_shrinking_does_not_alias() -> None:
    y, x = np.mgrid[:300, :300]
    stripes = ((x // 2 + y // 2) % 2 * 255).astype(np.uint8)
    view = warp(stripes, similarity(4, 0, 10, 10), 60)
    assert view.std() < 8
    assert 120 < view.mean() < 135
    assert warp(stripes, similarity(1, 0, 10, 10), 60).std() > 100  # nothing is lost at full size


def test_no_light_change_at_strength_zero() -> None:
    image = photograph(40, 40)
    assert change_light(image, np.random.default_rng(0), 0.0) is image


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_light_changes_values_and_keeps_structure(strength: float) -> None:
    image = photograph(96, 96, seed=1)
    changes, correlations = [], []
    for seed in range(60):
        changed = change_light(image, np.random.default_rng(seed), strength)
        again = change_light(image, np.random.default_rng(seed), strength)
        np.testing.assert_array_equal(changed, again)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        changes.append(np.abs(changed.astype(float) - image).mean())
        correlations.append(np.corrcoef(changed.ravel(), image.ravel())[0, 1])
    assert np.median(changes) > 8 * strength
    assert np.median(correlations) > 0.85
    assert min(correlations) > 0.4


def test_colors_change_like_grey() -> None:
    """All channels alike: a grey image in three channels stays grey, but for noise and JPEG."""
    grey = photograph(64, 64, seed=2)
    color = np.repeat(grey[..., None], 3, axis=2)
    for seed in range(20):
        changed = change_light(color, np.random.default_rng(seed), 0.7)
        assert changed.shape == color.shape
        assert changed.dtype == np.uint8
        spread = changed.max(axis=2).astype(int) - changed.min(axis=2)
        assert np.median(spread) < 25
    tinted = color.copy()
    tinted[..., 0] //= 4
    changed = change_light(tinted, np.random.default_rng(3), 0.7)
    assert changed[..., 0].mean() < 0.8 * changed[..., 2].mean()


def test_more_strength_is_more_change() -> None:
    image = photograph(64, 64, seed=2)
    means = [
        np.mean(
            [np.abs(change_light(image, np.random.default_rng(s), k).astype(float) - image).mean() for s in range(40)]
        )
        for k in (0.25, 0.5, 1.0)
    ]
    assert means[0] < means[1] < means[2]


class Constant:
    """A source whose pairs carry its number, or nothing every other time."""

    def __init__(self, number: int, reliable: bool = True) -> None:
        self.number, self.reliable, self.calls = number, reliable, 0

    def sample(self, rng: np.random.Generator) -> ViewPair | None:
        self.calls += 1
        if not self.reliable and self.calls % 2:
            return None
        point = np.full((1, 2), self.number, np.float32)
        return ViewPair((np.zeros((4, 4), np.uint8),) * 2, point, point)


def test_sources_are_drawn_by_their_weights() -> None:
    mix, rng = RandomMix([(3.0, Constant(0)), (1.0, Constant(1))]), np.random.default_rng(0)
    numbers = [mix.sample(rng).points0[0, 0] for _ in range(2000)]
    assert np.mean(numbers) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 2000))


def test_failed_draws_are_drawn_again() -> None:
    source = Constant(5, reliable=False)
    assert RandomMix([(1.0, source)]).sample(np.random.default_rng(0)).points0[0, 0] == 5
    assert source.calls == 2


def test_sources_without_pairs_are_an_error() -> None:
    class Nothing:
        def sample(self, rng: np.random.Generator) -> ViewPair | None:
            return None

    with pytest.raises(ConfigurationError, match="7 draws gave no view pair"):
        RandomMix([(1.0, Nothing())], max_draws=7).sample(np.random.default_rng(0))
