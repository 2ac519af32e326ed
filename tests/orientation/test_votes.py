"""Votes of two small pictures: evidence against chance, the angle and the scale between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from posfeat_hloc.matchers import with_places
from posfeat_hloc.orientation.looks import clockwise
from posfeat_hloc.orientation.votes import (
    EVIDENCE,
    SmallFeatures,
    both_upright,
    rotation_between,
    shear,
    similarity,
    vote,
    wrapped,
)

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


Array = NDArray[np.float64]


def camera(heading: float, pitch: float, roll: float = 0.0) -> Array:
    """World (x east, y north, z up) to camera: looking to a heading, ``pitch`` degrees down, rolled clockwise."""
    h, p, r = np.radians([heading, pitch, roll])
    ahead = np.array([np.sin(h) * np.cos(p), np.cos(h) * np.cos(p), -np.sin(p)])
    right = np.array([np.cos(h), -np.sin(h), 0.0])
    rolled = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return rolled @ np.stack([right, np.cross(ahead, right), ahead])


@given(st.floats(0, 360), st.floats(-55, 55), st.floats(-55, 55), st.floats(-10, 10), st.floats(-10, 10))
def test_upright_cameras_wherever_they_look(
    heading: float, pitch0: float, pitch1: float, roll0: float, roll1: float
) -> None:
    assert both_upright(camera(heading, pitch1, roll1) @ camera(0, pitch0, roll0).T)


@pytest.mark.parametrize("turn", [90, 180, 270])
@given(st.floats(-50, 50), st.floats(-15, 15))
def test_a_turned_camera_that_looks_about_the_same_way(turn: int, heading: float, pitch: float) -> None:
    assert not both_upright(camera(heading, pitch, turn) @ camera(0, 0).T)


def test_straight_down_no_picture_is_more_upright_than_another() -> None:
    """A flight that comes back: nothing but the turn makes its images alike."""
    assert not both_upright(camera(180, 89) @ camera(0, 89).T)
    assert both_upright(camera(180, 50) @ camera(0, 50).T)  # a table from its two sides


@pytest.mark.parametrize("plane", [False, True])
def test_the_rotation_of_points(plane: bool) -> None:
    rng = np.random.default_rng(4)
    world = rng.uniform(-1, 1, size=(150, 3)) * [1, 1, 0.0 if plane else 0.4]  # a table top, or things on it
    points = []
    rotations = camera(0, 50), camera(170, 45)
    for rotation in rotations:
        seen = world @ rotation.T + [0, 0, 4.0]  # 4 m from the middle of the table
        points.append(480 * seen[:, :2] / seen[:, 2:] + rng.normal(0, 0.3, size=(150, 2)))
    found = rotation_between(points[0], points[1], (400, 400), 2.0)
    assert found is not None
    true = rotations[1] @ rotations[0].T
    angle = np.degrees(np.arccos(np.clip((np.trace(found @ true.T) - 1) / 2, -1, 1)))
    assert angle < 5
    assert both_upright(found)


def test_points_of_no_geometry() -> None:
    rng = np.random.default_rng(5)
    assert rotation_between(rng.uniform(-200, 200, (6, 2)), rng.uniform(-200, 200, (6, 2)), (400, 400), 2.0) is None
