import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.options import ESTIMATORS, RelativePoseOptions
from posfeat_hloc.evaluation.posed_lists import PosedImagePair
from posfeat_hloc.evaluation.relative_pose import (
    estimate_pose,
    pose_auc,
    pose_error,
    precision,
    squared_epipolar_errors,
)
from tests.rendering import arc, calibration


def turn(axis, degrees):
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross, angle = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


VIEWS = arc(5)
ROTATION = VIEWS[3].rotation @ VIEWS[0].rotation.T
TRANSLATION = VIEWS[3].translation - ROTATION @ VIEWS[0].translation
K0, K1 = calibration(), np.diag([1.3, 1.2, 1]) @ calibration()
PAIR = PosedImagePair("a", "b", K0, K1, ROTATION, TRANSLATION)


def projections(count, seed=0):
    """Points of the scene in both images, exact."""
    rng = np.random.default_rng(seed)
    world = rng.uniform([-2, -1.5, 5], [2, 1.5, 9], (count, 3))
    pixels = []
    for view, k in ((VIEWS[0], K0), (VIEWS[3], K1)):
        projected = (world @ view.rotation.T + view.translation) @ k.T
        pixels.append(projected[:, :2] / projected[:, 2:])
    return pixels


def test_auc_closed_forms():
    assert pose_auc([0.0, 0.0]) == pytest.approx([1, 1, 1])
    assert pose_auc([np.inf, 50.0]) == [0, 0, 0]
    # one pair with an error of 4: a triangle up to 4, then 1
    assert pose_auc([4.0]) == pytest.approx([(2 + 1) / 5, (2 + 6) / 10, (2 + 16) / 20])
    # errors 2 and 12, a failure and one more failure: (0, 0) - (2, 1/4) - (12, 1/2), level after
    quarter = 0.25
    expected = [(2 * quarter / 2 + 3 * quarter) / 5, (2 * quarter / 2 + 8 * quarter) / 10,
                (2 * quarter / 2 + 10 * (quarter + 0.5) / 2 + 8 * 0.5) / 20]  # fmt: skip
    assert pose_auc([np.inf, 12.0, 2.0, np.inf]) == pytest.approx(expected)
    assert pose_auc([]) == [0, 0, 0]


@given(st.lists(st.floats(0, 30), min_size=1, max_size=12))
def test_auc_is_the_integral_of_the_recall_curve(errors):
    ordered = [0.0, *sorted(errors)]
    n = len(errors)
    for threshold, area in zip((5, 10, 20), pose_auc(errors), strict=True):
        corners = [(e, i / n) for i, e in enumerate(ordered) if e < threshold]
        corners.append((threshold, corners[-1][1]))
        total = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(corners))
        assert area == pytest.approx(total / threshold, abs=1e-9)
        assert -1e-12 <= area <= 1 + 1e-12


def test_errors_are_the_angles_that_were_put_in():
    sideways = np.cross(TRANSLATION, [0.2, 1, 0.4])
    moved = turn(sideways, 7.5) @ TRANSLATION
    rotation, translation = pose_error((turn([1, 2, 3], 3.25) @ ROTATION, 0.1 * moved), PAIR)
    assert rotation == pytest.approx(3.25, abs=1e-9)
    assert translation == pytest.approx(7.5, abs=1e-9)
    assert pose_error((ROTATION, -moved), PAIR)[1] == pytest.approx(7.5, abs=1e-9)  # the sign is free
    assert pose_error((turn([0, 0, 1], 180) @ ROTATION, TRANSLATION), PAIR) == pytest.approx((180, 0), abs=1e-5)
    assert pose_error(None, PAIR) == (np.inf, np.inf)


def test_exact_matches_lie_on_their_epipolar_lines_and_others_as_far_as_they_were_moved():
    points0, points1 = projections(30)
    np.testing.assert_allclose(squared_epipolar_errors(points0, points1, PAIR), 0, atol=1e-20)
    assert precision(points0, points1, PAIR) == 1
    moved = points1 + np.array([0.0, 5.0])
    x, y, z = TRANSLATION
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ ROTATION
    for p0, p1, error in zip(points0, moved, squared_epipolar_errors(points0, moved, PAIR), strict=True):
        r0, r1 = np.linalg.solve(K0, [*p0, 1]), np.linalg.solve(K1, [*p1, 1])
        line1, line0 = essential @ r0, essential.T @ r1
        expected = (r1 @ line1) ** 2 / (line1[0] ** 2 + line1[1] ** 2) + (r0 @ line0) ** 2 / (
            line0[0] ** 2 + line0[1] ** 2
        )
        assert error == pytest.approx(expected)
    half = np.r_[points1[:15], points1[15:] + np.array([0.0, 60.0])]
    assert precision(points0, half, PAIR) == 0.5
    assert precision(points0[:0], points1[:0], PAIR) == 0


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_pose_of_a_scene_is_found_among_wrong_matches(name):
    points0, points1 = projections(150, seed=1)
    points1[100:] = np.random.default_rng(2).uniform(0, 300, (50, 2))
    options = RelativePoseOptions(estimator=name)
    found = estimate_pose(points0, points1, K0, K1, options)
    assert max(pose_error(found, PAIR)) < 0.2
    again = estimate_pose(points0, points1, K0, K1, options)
    np.testing.assert_array_equal(np.c_[found[0], found[1]], np.c_[again[0], again[1]])
    assert np.linalg.det(found[0]) == pytest.approx(1)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_too_few_or_equal_points_give_no_pose_or_a_bad_one(name):
    points0, points1 = projections(4)
    assert estimate_pose(points0, points1, K0, K1, RelativePoseOptions(estimator=name)) is None
    same = np.full((12, 2), 50.0)
    found = estimate_pose(same, same, K0, K1, RelativePoseOptions(estimator=name))
    assert found is None or max(pose_error(found, PAIR)) > 1


def test_options_that_make_no_sense_are_named():
    with pytest.raises(ConfigurationError, match=r"estimator: 'usac' is not one of opencv-ransac"):
        RelativePoseOptions(estimator="usac")
    with pytest.raises(ConfigurationError, match="must be a positive number of pixels"):
        RelativePoseOptions(threshold=-1)
