"""Features and matches as values: scaling, reversal, validation."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from posfeat_hloc.features import Features, Matches


def features_at(points: list[tuple[float, float]]) -> Features:
    n = len(points)
    descriptors = np.eye(max(n, 1), 4, dtype=np.float32)[:n]
    return Features(np.array(points, np.float32).reshape(-1, 2), np.arange(n, dtype=np.float32), descriptors)


def test_scaled_maps_pixel_areas() -> None:
    found = features_at([(-0.5, -0.5), (99.5, 49.5), (10, 20), (0, 0)])
    moved = found.scaled((100, 50), (300, 200))
    # corners of the image stay corners; the centre of the first pixel becomes the centre of its 3 x 4 block
    assert_array_equal(moved.keypoints, np.array([(-0.5, -0.5), (299.5, 199.5), (31, 81.5), (1, 1.5)], np.float32))
    assert moved.keypoints.dtype == np.float32
    assert_array_equal(moved.scores, found.scores)
    assert_array_equal(moved.descriptors, found.descriptors)


side = st.integers(1, 8000)


@given(st.tuples(side, side), st.tuples(side, side), st.floats(0, 1), st.floats(0, 1))
def test_scaled_there_and_back(size: tuple[int, int], original: tuple[int, int], u: float, v: float) -> None:
    point = (u * size[0] - 0.5, v * size[1] - 0.5)
    moved = features_at([point]).scaled(size, original)
    np.testing.assert_allclose(moved.keypoints[0], (u * original[0] - 0.5, v * original[1] - 0.5), rtol=1e-6, atol=1e-3)
    back = moved.scaled(original, size)
    tolerance = 1e-3 * max(1.0, size[0] / original[0], size[1] / original[1])  # float32 in the smaller image
    np.testing.assert_allclose(back.keypoints[0], point, atol=tolerance)


def test_scaling_keeps_quarter_pixels_of_large_images() -> None:
    assert_array_equal(features_at([(1500.25, 999.75)]).scaled((2000, 1500), (4000, 3000)).keypoints, [(3001, 2000)])


@pytest.mark.parametrize(
    ("keypoints", "scores", "descriptors"),
    [
        ((3, 2), (2,), (3, 4)),
        ((3, 2), (3,), (2, 4)),
        ((3, 3), (3,), (3, 4)),
        ((3, 2), (3, 1), (3, 4)),
        ((6,), (6,), (6, 4)),
    ],
)
def test_features_must_agree(keypoints: tuple[int, ...], scores: tuple[int, ...], descriptors: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(scores))):
        Features(np.zeros(keypoints, np.float32), np.zeros(scores, np.float32), np.zeros(descriptors, np.float32))


def test_empty() -> None:
    empty = Features.empty(7)
    assert (len(empty), empty.descriptors.shape) == (0, (0, 7))
    assert empty.scaled((3, 3), (9, 9)).keypoints.shape == (0, 2)
    none = Matches.empty(3)
    assert_array_equal(none.indices, [-1, -1, -1])
    assert_array_equal(none.scores, [0, 0, 0])
    assert none.pairs().shape == (0, 2)


@pytest.mark.parametrize(("indices", "scores"), [((3,), (2,)), ((3, 1), (3, 1))])
def test_matches_must_agree(indices: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one vector each"):
        Matches(np.zeros(indices, np.int64), np.zeros(scores, np.float32))


def test_pairs_lists_the_matched() -> None:
    matches = Matches(np.array([-1, 5, -1, 0]), np.array([0, 0.5, 0, 1], np.float32))
    assert_array_equal(matches.pairs(), [(1, 5), (3, 0)])


@st.composite
def any_matches(draw: st.DrawFn, injective: bool = False) -> tuple[Matches, int]:
    """Matches and the number of keypoints in the second image."""
    count1 = draw(st.integers(1, 12))
    indices = draw(st.lists(st.integers(-1, count1 - 1), max_size=12))
    if injective:
        indices = [j if j not in indices[:i] else -1 for i, j in enumerate(indices)]
    scores = [0.0 if j < 0 else draw(st.integers(1, 1000)) / 1000 for j in indices]
    return Matches(np.array(indices, np.int64), np.array(scores, np.float32)), count1


@given(any_matches())
def test_reversed_keeps_the_best_of_each(drawn: tuple[Matches, int]) -> None:
    matches, count1 = drawn
    back = matches.reversed(count1)
    assert len(back.indices) == count1
    for j in range(count1):
        rivals = {i: matches.scores[i] for i in np.flatnonzero(matches.indices == j)}
        if rivals:
            assert back.indices[j] in rivals
            assert back.scores[j] == rivals[back.indices[j]] == max(rivals.values())
        else:
            assert (back.indices[j], back.scores[j]) == (-1, 0)


@given(any_matches(injective=True))
def test_reversing_twice_changes_nothing(drawn: tuple[Matches, int]) -> None:
    matches, count1 = drawn
    twice = matches.reversed(count1).reversed(len(matches.indices))
    assert_array_equal(twice.indices, matches.indices)
    assert_array_equal(twice.scores, matches.scores)
