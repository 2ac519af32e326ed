import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix


def relative_pose(rng):
    angles = rng.normal(size=3) * 0.3
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), rng.normal(size=3) * 2)


def parts(pose):
    return pose.rotation.matrix(), pose.translation


def distance_to_drawn_line(pose, point, other):
    """Draw the line: two places on the ray of ``point`` as the other camera sees them."""
    ends = [pose * (np.append(point, 1) * depth) for depth in (7.0, 50.0)]
    a, b = (end[:2] / end[2] for end in ends)
    normal = np.array([b[1] - a[1], a[0] - b[0]]) / np.linalg.norm(b - a)
    return abs(normal @ (other - a))


@given(st.integers(0, 10_000))
def test_errors_are_distances_to_the_lines_drawn_from_two_depths(seed):
    rng = np.random.default_rng(seed)
    pose = relative_pose(rng)
    points0, points1 = rng.uniform(-0.5, 0.5, (2, 6, 2))
    errors0, errors1 = epipolar_errors(essential_matrix(*parts(pose)), points0, points1)
    for i in range(6):
        assert errors1[i] == pytest.approx(distance_to_drawn_line(pose, points0[i], points1[i]), rel=1e-4, abs=1e-9)
        assert errors0[i] == pytest.approx(
            distance_to_drawn_line(pose.inverse(), points1[i], points0[i]), rel=1e-4, abs=1e-9
        )


def test_true_matches_have_no_error_and_cameras_at_one_place_no_lines():
    rng = np.random.default_rng(0)
    pose = relative_pose(rng)
    points = rng.uniform([-1, -1, 4], [1, 1, 8], (5, 3))
    seen = pose * points
    points0, points1 = points[:, :2] / points[:, 2:], seen[:, :2] / seen[:, 2:]
    np.testing.assert_allclose(epipolar_errors(essential_matrix(*parts(pose)), points0, points1), 0, atol=1e-12)
    same_place = pycolmap.Rigid3d(pose.rotation, np.zeros(3))
    assert np.isnan(epipolar_errors(essential_matrix(*parts(same_place)), points0, points1)).all()
