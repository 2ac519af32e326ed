"""Warps, points and light changes where the answer is known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training.views import (
    RandomMix,
    SyntheticOptions,
    SyntheticSource,
    ViewPair,
    inside,
    random_homography,
    textured,
    transform,
    warp,
)
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


OPTIONS = SyntheticOptions(size=128, light=0, max_points=200, min_points=16)


def pairs(options: SyntheticOptions, count: int, lattice: tuple[int, int] | None = None) -> list[ViewPair]:
    source = SyntheticSource([photograph(240, 300, 1), photograph(260, 200, 2)], options, lattice)
    rng = np.random.default_rng(0)
    drawn = [source.sample(rng) for _ in range(4 * count)]
    found = [pair for pair in drawn if pair is not None]
    assert len(found) >= count
    return found[:count]


def fitted_homography(pair: ViewPair) -> np.ndarray:
    homography, _ = cv2.findHomography(pair.points0.astype(np.float64), pair.points1.astype(np.float64), 0)
    return np.asarray(homography)


def test_points_are_related_by_a_homography() -> None:
    for pair in pairs(OPTIONS, 8):
        mapped = transform(fitted_homography(pair), pair.points0.astype(np.float64))
        assert np.abs(mapped - pair.points1).max() < 1e-3
        assert np.abs(pair.points0 - pair.points1).max() > 1  # the views do differ


def test_the_same_place_looks_the_same() -> None:
    """Around each pair of points, the second view brought into the first one's frame shows the same grey values."""
    for pair in pairs(OPTIONS, 8):
        into0 = cv2.warpPerspective(
            pair.images[1], fitted_homography(pair), (128, 128), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        correlations = []
        for x, y in np.round(pair.points0).astype(int):
            patches = [
                cv2.GaussianBlur(view, (0, 0), 1.0)[y - 6 : y + 7, x - 6 : x + 7].ravel().astype(float)
                for view in (pair.images[0], into0)
            ]
            correlations.append(np.corrcoef(*patches)[0, 1])
        assert np.median(correlations) > 0.97
        assert np.quantile(correlations, 0.05) > 0.9


def test_the_same_seed_gives_the_same_pair() -> None:
    source = SyntheticSource([photograph(240, 300, 3)], SyntheticOptions(size=128, min_points=8))
    first, second, other = (source.sample(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first is not None
    assert second is not None
    assert other is not None
    for a, b in ((first.images[0], second.images[0]), (first.images[1], second.images[1])):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.points0, second.points0)
    np.testing.assert_array_equal(first.points1, second.points1)
    assert not np.array_equal(first.images[0], other.images[0])


@pytest.mark.parametrize("lattice", [None, (4, 14)])
def test_points_keep_the_margin(lattice: tuple[int, int] | None) -> None:
    for pair in pairs(OPTIONS, 8, lattice):
        for points in (pair.points0, pair.points1):
            assert points.min() >= 16
            assert points.max() <= 127 - 16
        assert 16 <= len(pair.points0) == len(pair.points1) <= 200


def test_points_of_the_first_view_lie_on_the_lattice() -> None:
    for pair in pairs(OPTIONS, 4, (4, 14)):
        assert not ((pair.points0 - 14) % 4).any()
        assert ((pair.points1 - 14) % 4).any()
        assert len(np.unique(pair.points0, axis=0)) == len(pair.points0)  # no cell twice


def test_options_limit_the_views() -> None:
    """Without rotation, tilt and magnification, views are shifted copies."""
    still = SyntheticOptions(size=128, rotation=0, scale=1, tilt=0, light=0, min_points=4)
    for pair in pairs(still, 5):
        linear = fitted_homography(pair)[:2, :2]
        np.testing.assert_allclose(linear, np.eye(2) * linear[0, 0], atol=1e-4)
        assert 0.5 < linear[0, 0] < 2


def test_a_homography_turns_and_magnifies_within_its_options() -> None:
    options = SyntheticOptions(size=100, rotation=10, scale=1.5, tilt=0)
    centre = np.array([200.0, 150.0])
    for seed in range(50):
        homography = random_homography(np.random.default_rng(seed), centre, 2.0, options)
        origin, right, middle = transform(homography, np.array([[0.0, 0], [100, 0], [50, 50]]))
        side = (right - origin) / 100
        assert 2 / 1.5 - 1e-9 <= np.hypot(*side) <= 2 * 1.5 + 1e-9
        assert abs(np.rad2deg(np.arctan2(side[1], side[0]))) <= 30 + 1e-9
        assert np.abs(middle - centre).max() <= 0.15 * 100 * 2 * 1.5 * np.sqrt(2)


def test_flat_images_give_no_pair() -> None:
    source = SyntheticSource([np.full((300, 300), 90, np.uint8)], OPTIONS)
    assert all(source.sample(np.random.default_rng(seed)) is None for seed in range(5))


def test_flat_places_are_not_textured() -> None:
    image = photograph(100, 200, 4)
    image[:, 100:] = 77
    points = np.array([[40, 50], [80, 30], [130, 50], [180, 90]], float)
    assert textured(image, points, 4.0).tolist() == [True, True, False, False]


def test_texture_is_the_deviation_in_the_box() -> None:
    image = photograph(60, 60, 5)
    deviation = image[30 - 12 : 30 + 13, 25 - 12 : 25 + 13].astype(np.float64).std()
    point = np.array([[25.3, 29.8]])
    assert textured(image, point, deviation - 0.01).all()
    assert not textured(image, point, deviation + 0.01).any()
