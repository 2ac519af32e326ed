"""Rotations between cameras that people hold upright, and between others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posfeat_hloc.orientation.gravity import both_upright, rotation_between

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
