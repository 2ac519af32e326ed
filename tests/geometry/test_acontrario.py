"""How many inliers random matches have, against exact sums and drawn matches."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.geometry.acontrario import log_nfa, needed_pose_inliers, random_inlier_ratio

IMAGE = (1000, 800)
SIZE = (1200, 800)
ROWS = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Fundamental matrix of a camera that moved sideways: epipolar lines are rows."""


@given(st.integers(8, 60), st.integers(0, 60), st.fractions(Fraction(1, 100), Fraction(9, 10)))
def test_expected_geometries_by_exact_sums(matches: int, inliers: int, share: Fraction) -> None:
    inliers = min(inliers, matches)
    found = log_nfa(matches, inliers, float(share))
    if inliers <= 7:
        assert found == math.inf  # any seven matches have a geometry
        return
    others = matches - 7
    tail = sum(math.comb(others, k) * share**k * (1 - share) ** (others - k) for k in range(inliers - 7, others + 1))
    assert found == pytest.approx(math.log(3 * math.comb(matches, 7) * tail), abs=1e-6)


def test_what_two_photographs_without_anything_in_common_gave() -> None:
    """58 inliers of 1623 matches, 1.4 % of random ones fit; 125 of 1736 at 1.9 % are of two views of one street."""
    assert log_nfa(1623, 58, 0.0138) > 20
    assert log_nfa(1736, 125, 0.0194) < -20


def test_the_share_of_random_matches_that_fit_rows() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.uniform(0, SIZE, size=(2, 3000, 2))
    # Sampson's error is the difference of the rows by the square root of two
    half = 4 * math.sqrt(2) / SIZE[1]
    assert random_inlier_ratio(first, second, ROWS, 4.0) == pytest.approx(2 * half - half**2, rel=0.15)
    second[:, 1] = first[:, 1]  # all true, which exchanged matches do not show
    assert random_inlier_ratio(first, second, ROWS, 4.0) == pytest.approx(2 * half - half**2, rel=0.15)


def test_a_few_matches_are_not_compared_with_themselves() -> None:
    points = np.array([[10.0, 0], [500, 200], [900, 400], [1000, 600]])
    assert random_inlier_ratio(points, points, ROWS, 4.0) < 1e-3


@pytest.mark.parametrize("matches", [1, 10, 300, 5000, 200_000])
def test_needed_inliers_bound_the_tail_of_the_poisson_distribution(matches):
    mean = matches * math.pi * 144 / 800_000
    needed = needed_pose_inliers(matches, 12, IMAGE)

    def tail(count):  # P(X >= count), summed term by term
        logs = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count, count + 400)]
        return sum(math.exp(value) for value in logs)

    assert tail(needed - 3) <= 1e-6
    assert tail(max(1, needed - 3 - 4 - needed // 20)) > 1e-6 or matches < 20  # and not by far
    assert needed > 3


def test_needed_inliers_grow_with_matches_and_tolerance():
    assert sorted(needed_pose_inliers(n, 12, IMAGE) for n in (0, 10, 100, 1000, 10**6)) == [
        needed_pose_inliers(n, 12, IMAGE) for n in (0, 10, 100, 1000, 10**6)
    ]
    assert needed_pose_inliers(500, 4, IMAGE) < needed_pose_inliers(500, 12, IMAGE)
    assert needed_pose_inliers(50, 12, (5, 5)) > 50  # in an image smaller than the tolerance nothing is evidence
