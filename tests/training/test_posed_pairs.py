"""Two-view geometry against projections of points, resizing against the place of a mark."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.geometry.two_view import fundamental_matrix
from posfeat_hloc.images.resampling import fit_calibration, fit_image
from posfeat_hloc.training.posed_pairs import PosedPair, check_limits, transfer, usable
from posfeat_hloc.training.views import RandomMix
from tests.training.cameras import epipolar_distances, marked, project, spot, turn

K0 = np.array([[500.0, 0, 310], [0, 490, 250], [0, 0, 1]])
K1 = np.array([[620.0, 0, 330], [0, 610, 230], [0, 0, 1]])
BLANK = np.zeros((480, 640, 3), np.uint8)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_points_lie_on_their_epipolar_lines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    R, t = turn(*rng.normal(0, 20, 3)), rng.normal(size=3)
    points = rng.normal([0, 0, 9], 1, (10, 3))
    pixels0, pixels1 = project(K0, np.eye(3), np.zeros(3), points), project(K1, R, t, points)
    pair = PosedPair(BLANK, BLANK, K0, K1, R, t)
    assert epipolar_distances(pair, pixels0, pixels1).max() < 1e-6
    assert epipolar_distances(pair.swapped(), pixels1, pixels0).max() < 1e-6
    assert np.median(epipolar_distances(pair, pixels0, pixels1[::-1])) > 1
    assert np.linalg.norm(fundamental_matrix(K0, K1, R, 50 * t)) == pytest.approx(1)


def test_cameras_at_one_place_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="without baseline"):
        fundamental_matrix(K0, K1, turn(0, 5, 0), np.zeros(3))


def test_turned_pairs_and_pairs_without_baseline_are_left_out_and_counted() -> None:
    R = np.array([turn(0, angle, 0) for angle in (10, 79, 81, 10, 100)])
    t = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0.01, 0, 0], [0, 0, 0]])
    good, reasons = usable(R, t, 80, 0.02)
    assert good.tolist() == [True, True, False, False, False]
    assert reasons == {"without baseline": 2, "turned more than 80 degrees": 1}
    assert usable(R[:2], 0 * t[:2], 80, 0.0)[0].tolist() == [False, False]


@pytest.mark.parametrize("source", [(320, 240), (640, 480), (200, 300), (333, 207), (97, 411), (100, 75)])
def test_a_mark_moves_as_the_intrinsics_say(source: tuple[int, int]) -> None:
    width, height = source
    size = (160, 120)
    place = np.array([width / 2 + 0.09 * width, height / 2 - 0.05 * height])
    fitted = fit_image(marked(width, height, place, sigma=max(width / 50, 2)), size)
    assert fitted.shape == (120, 160, 3)
    K = np.array([[300.0, 0, 0.4 * width], [0, 280, 0.6 * height], [0, 0, 1]])
    ray = np.linalg.solve(K, [*place, 1])
    moved = fit_calibration(K, source, size) @ ray
    np.testing.assert_allclose(spot(fitted), moved[:2], atol=0.06)


def test_a_picture_of_the_training_size_stays_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_image(picture, (64, 48)), picture)
    np.testing.assert_array_equal(fit_calibration(K0, (64, 48), (64, 48)), K0)


def slanted_depth(K: np.ndarray, R: np.ndarray, t: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Depth of the plane 0.3 X + Z = 4 in a camera."""
    normal = np.array([0.3, 0, 1.0])
    y, x = np.mgrid[: shape[0], : shape[1]]
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(K).T  # depth 1 in the camera
    return ((4 + normal @ R.T @ t) / (rays @ (R @ normal))).astype(np.float32)


def test_points_of_a_plane_are_transferred_and_seen() -> None:
    R, t = turn(2, -12, 5), np.array([0.8, 0.1, -0.3])
    depth0 = slanted_depth(K0, np.eye(3), np.zeros(3), (480, 640))
    depth1 = slanted_depth(K1, R, t, (480, 640))
    rng = np.random.default_rng(1)
    points0 = rng.uniform([0, 0], [639, 479], (200, 2))
    rays = np.c_[points0, np.ones(200)] @ np.linalg.inv(K0).T
    X = rays * (4 / (rays @ [0.3, 0, 1]))[:, None]
    expected = project(K1, R, t, X)
    points1, seen = PosedPair(BLANK, BLANK, K0, K1, R, t, depth0, depth1).transfer(points0)
    np.testing.assert_allclose(points1, expected, atol=1e-3)
    inside = ((expected >= 0) & (expected <= [639, 479])).all(axis=1)
    np.testing.assert_array_equal(seen, inside)
    assert 60 < inside.sum() < 200


def test_occluded_points_points_on_edges_and_points_without_depth_are_not_seen() -> None:
    K = np.array([[100.0, 0, 31.5], [0, 100, 23.5], [0, 0, 1]])
    depth0, depth1 = np.full((48, 64), 5, np.float32), np.full((48, 64), 5, np.float32)
    t = np.array([-0.5, 0, 0])  # 10 pixels to the left at depth 5
    depth1[:, :20] = 3  # something stands before the left part of view 1
    depth0[:, 50:] = 4  # a jump
    depth0[:10] = 0
    points0 = np.array([[40.0, 30], [25, 30], [5, 30], [49.5, 30], [40, 5], [-1, 30]])
    points1, seen = transfer(points0, depth0, depth1, K, K, np.eye(3), t)
    assert seen.tolist() == [True, False, False, False, False, False]
    np.testing.assert_allclose(points1[:3, 0], [30, 15, -5], atol=1e-5)
    assert np.isnan(points1[4:]).all()


def test_pairs_without_depth_have_no_correspondences() -> None:
    with pytest.raises(ConfigurationError, match="need depth"):
        PosedPair(BLANK, BLANK, K0, K1, np.eye(3), np.ones(3)).transfer(np.zeros((1, 2)))


def test_impossible_limits() -> None:
    with pytest.raises(ConfigurationError, match="16x480"):
        check_limits((16, 480), 80)
    for angle in (0, 181):
        with pytest.raises(ConfigurationError, match="rotation limit"):
            check_limits((640, 480), angle)


def test_sources_of_posed_pairs_are_mixed_like_others() -> None:
    pair = PosedPair(BLANK, BLANK, K0, K1, np.eye(3), np.ones(3))

    class Fixed:
        def sample(self, rng: np.random.Generator) -> PosedPair | None:
            return pair if rng.random() < 0.5 else None

    assert RandomMix([(1.0, Fixed())]).sample(np.random.default_rng(0)) is pair
