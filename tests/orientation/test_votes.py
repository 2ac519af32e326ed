"""Votes of two small pictures: evidence against chance, the angle and the scale between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.matchers import with_places
from posfeat_hloc.orientation.looks import clockwise
from posfeat_hloc.orientation.votes import EVIDENCE, SmallFeatures, shear, similarity, vote, wrapped

SAME = (np.eye(2), np.eye(2))

SIZE = (401.0, 401.0)


def described(rng: np.random.Generator, count: int) -> np.ndarray:
    descriptors = rng.normal(size=(count, 32)).astype(np.float32)
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def seen_twice(
    rng: np.random.Generator, common: int, angle: float, scale: float
) -> tuple[SmallFeatures, SmallFeatures]:
    """300 keypoints of a relief, ``common`` of them in both images, the second one turned and scaled."""
    points, depth = rng.uniform(0, 400, size=(300, 2)), rng.uniform(1, 2, size=(300, 1))
    moved = (points + np.array([30.0, 4.0]) / depth - 200) @ clockwise(angle).T * scale + 200
    descriptors = described(rng, 300)
    others = described(rng, 300)
    others[:common] = descriptors[:common]
    moved[common:] = rng.uniform(0, 400, size=(300 - common, 2))
    noisy = moved + rng.normal(0, 0.3, moved.shape)
    return SmallFeatures(points, descriptors, SIZE), SmallFeatures(noisy, others, SIZE)


@given(st.floats(-180, 180), st.floats(0.3, 3), st.integers(0, 100))
def test_rotation_and_scale_of_points(angle: float, scale: float, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 400, size=(40, 2))
    found = similarity(points, points @ clockwise(angle).T * scale + [3.0, -5.0])
    assert abs(wrapped(found[0] - angle)) < 6  # medians do not turn quite as points do
    assert found[1] == pytest.approx(scale, rel=0.1)


@settings(max_examples=15)
@given(st.sampled_from([0.0, 90.0, 180.0, 270.0]), st.floats(-25, 25), st.integers(0, 1000))
def test_a_relief_seen_twice_is_recognised_with_its_angle(turn: float, roll: float, seed: int) -> None:
    first, second = seen_twice(np.random.default_rng(seed), 120, turn + roll, 0.8)
    found = vote(first, second, SAME, turn)
    assert found.counts
    assert found.evidence > 5 * EVIDENCE
    assert abs(wrapped(found.angle - turn - roll)) < 4
    assert found.scale == pytest.approx(0.8, rel=0.05)
    # the other way round, the angle is the opposite one
    assert abs(wrapped(vote(second, first, SAME, -turn).angle + turn + roll)) < 4


def test_random_pictures_give_no_vote() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        first, second = (SmallFeatures(rng.uniform(0, 400, size=(512, 2)), described(rng, 512), SIZE) for _ in range(2))
        found.append(vote(first, second, SAME).evidence)
    assert max(found) < EVIDENCE
    assert min(found) < 0


def test_an_angle_that_contradicts_the_look_is_not_believed() -> None:
    first, second = seen_twice(np.random.default_rng(1), 120, 5.0, 1.0)
    assert vote(first, second, SAME, 0).counts
    assert not vote(first, second, SAME, 90).counts


def test_angles_refer_to_upright_pictures() -> None:
    """A file that is stored upside down agrees with one that is stored upright, once both are seen upright."""
    first, second = seen_twice(np.random.default_rng(2), 120, 180.0, 1.0)
    found = vote(first, second, (np.eye(2), clockwise(180)), 0)
    assert abs(wrapped(found.angle)) < 4


@pytest.mark.parametrize("count", [0, 1, 11])
def test_few_keypoints_are_no_evidence(count: int) -> None:
    rng = np.random.default_rng(0)
    features = SmallFeatures(rng.uniform(0, 400, size=(count, 2)), described(rng, count), SIZE)
    assert not vote(features, features, SAME).counts


def test_places_are_those_of_the_picture_as_it_was_shown() -> None:
    """Matchers that look at places see turned photographs as their descriptors were computed."""
    size = (100, 60)
    stored = np.array([[10.0, 20.0], [90.0, 50.0]])
    turned = np.array([[60 - 20.0, 10.0], [60 - 50.0, 90.0]])  # after a quarter clockwise
    none = np.zeros((2, 1))
    expected = with_places(none, turned, (60, 100))
    np.testing.assert_allclose(with_places(none, stored, size, 90), expected, atol=1e-6)


def test_foreshortened_ground_from_its_other_side_is_no_turned_picture() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 400, size=(60, 2))
    upsampled = points @ np.array([[-1.0, 0.0], [0.0, -0.4]])
    assert shear(points, upsampled) == pytest.approx(2.5)
    assert shear(points, points @ clockwise(90) * 3) == pytest.approx(1)
    assert shear(points, points * [1, -1]) == np.inf
    first, second = seen_twice(rng, 120, 180.0, 1.0)
    assert vote(first, second, SAME, 180).counts
    squeezed = SmallFeatures(second.points * [1, 0.4], second.descriptors, SIZE)
    assert not vote(first, squeezed, SAME, 180).counts
    # as it is, the same ground may be foreshortened
    first, second = seen_twice(rng, 120, 0.0, 1.0)
    squeezed = SmallFeatures(second.points * [1, 0.4], second.descriptors, SIZE)
    assert vote(first, squeezed, SAME).counts
