"""Angles of rotations, relative poses, and where cameras look."""

from __future__ import annotations

import numpy as np
import pytest

from posfeat_hloc.geometry.rotations import look_at, relative_pose, rotation_angle
from tests.training.cameras import turn


def test_relative_poses_carry_points_from_camera_to_camera() -> None:
    rng = np.random.default_rng(0)
    R0, R1 = (np.array([turn(*rng.normal(0, 40, 3)) for _ in range(5)]) for _ in range(2))
    t0, t1, X = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=3)
    R, t = relative_pose(R0, t0, R1, t1)
    for i in range(5):
        np.testing.assert_allclose(R[i] @ (R0[i] @ X + t0[i]) + t[i], R1[i] @ X + t1[i], atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 30.0, 90.0, 179.9999, 180.0])
def test_angles_of_rotations(angle: float) -> None:
    axis = np.array([0.6, 0, 0.8])
    assert float(rotation_angle(turn(*(angle * axis)))) == pytest.approx(angle, abs=1e-9)


def test_a_camera_has_what_it_looks_at_on_its_axis_and_down_below_its_centre() -> None:
    centre, target, down = np.array([1.0, -2, 3]), np.array([4.0, 1, 9]), (0.3, 1.0, 0.1)
    R = look_at(centre, target, down)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(R @ (target - centre), [0, 0, np.sqrt(54)], atol=1e-12)
    x, y, _ = R @ down
    assert x == pytest.approx(0, abs=1e-12)
    assert y > 0
