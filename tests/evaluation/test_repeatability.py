import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.evaluation.repeatability import repeatability

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
SIZE = (100, 50)


def test_mutual_pairs_within_three_pixels_count():
    """By hand: of four points in the common part of image 0 and three of image 1, two are found in both."""
    first = np.array([[10.0, 10], [30, 20], [50, 30], [70, 40], [95, 10]])  # the last leaves image 1
    second = np.array([[20.0, 12], [40, 20], [60, 33.5], [2, 2]])  # 2 px, exact, 3.5 px; the last is not in image 0
    assert repeatability(first, second, SHIFT, SIZE, SIZE) == pytest.approx(2 / 3)
    assert repeatability(first, second, SHIFT, SIZE, SIZE, threshold=4) == pytest.approx(1)
    assert repeatability(first, second, SHIFT, SIZE, SIZE, threshold=1) == pytest.approx(1 / 3)


def test_a_point_has_one_partner_only():
    crowd = np.array([[30.0, 20], [30.5, 20], [31, 20]])
    assert repeatability(crowd, np.array([[40.0, 20], [80, 40]]), SHIFT, SIZE, SIZE) == pytest.approx(1 / 2)


def test_nothing_in_common():
    assert repeatability(np.array([[95.0, 10]]), np.array([[50.0, 10]]), SHIFT, SIZE, SIZE) == 0
    assert repeatability(np.zeros((0, 2)), np.array([[50.0, 10]]), SHIFT, SIZE, SIZE) == 0


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 40))
def test_against_all_distances(seed, count0, count1):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(0, 1, (n, 2)) * (99, 49) for n in (count0, count1))
    turn = np.array([[0.9, 0.1, 3], [-0.1, 0.9, 4], [1e-3, 0, 1]])
    moved = np.c_[first, np.ones(count0)] @ turn.T
    back = np.c_[second, np.ones(count1)] @ np.linalg.inv(turn).T
    there = [p[:2] / p[2] for p in moved]
    seen0 = np.array([p for p in there if 0 <= p[0] <= 99 and 0 <= p[1] <= 49]).reshape(-1, 2)
    homes = [p[:2] / p[2] for p in back]
    seen1 = np.array([q for q, h in zip(second, homes, strict=True) if 0 <= h[0] <= 99 and 0 <= h[1] <= 49])
    expected = 0.0
    if len(seen0) and len(seen1):
        d = np.linalg.norm(seen0[:, None] - seen1[None], axis=2)
        mutual = [(i, j) for i, j in enumerate(d.argmin(axis=1)) if d[:, j].argmin() == i]
        expected = sum(d[i, j] <= 3 for i, j in mutual) / min(d.shape)
    assert repeatability(first, second, turn, SIZE, SIZE) == pytest.approx(expected)
