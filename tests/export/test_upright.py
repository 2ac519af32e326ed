"""The up direction, of cameras that look and are turned every way, and rotations between directions."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from posfeat_hloc.export.upright import up_direction
from posfeat_hloc.geometry.rotations import rotation_between

Array = NDArray[np.float64]
UP = np.array([0.0, 0, 1])
IN_CAMERA = {1: (0, -1), 3: (0, 1), 6: (-1, 0), 8: (1, 0)}
"""EXIF orientation -> where the top of the upright image is, in the camera's x and y."""


def camera(heading: float, pitch: float, orientation: int = 1, roll: float = 0.0) -> pycolmap.Image:
    """A camera that is held level, but for ``roll``, and looks up by ``pitch``; all in degrees."""
    h, p, r = np.radians([heading, pitch, roll])
    forward = np.array([np.cos(h) * np.cos(p), np.sin(h) * np.cos(p), np.sin(p)])
    right = np.array([np.sin(h), -np.cos(h), 0.0])
    top = np.cross(right, forward)
    right, top = np.cos(r) * right + np.sin(r) * top, np.cos(r) * top - np.sin(r) * right
    x, y = IN_CAMERA[orientation]  # turn the image back to the pixels as stored
    axes = {1: (right, -top), 3: (-right, top), 6: (-top, -right), 8: (top, right)}[orientation]
    assert_allclose(x * axes[0] + y * axes[1], top, atol=1e-12)
    rotation = np.stack([*axes, forward])  # of the camera from the world
    assert np.linalg.det(rotation) > 0
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", width=8, height=6, params=[5, 5, 4, 3], camera_id=1)
    )
    image = pycolmap.Image(name="a", camera_id=1, image_id=1)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), np.zeros(3)))
    KEPT.append(model)  # which owns the image
    return model.images[1]


KEPT: list[pycolmap.Reconstruction] = []


def angle(found: Array) -> float:
    return float(np.degrees(np.arccos(np.clip(found @ UP, -1, 1))))


@pytest.mark.parametrize("orientation", IN_CAMERA)
@pytest.mark.parametrize("pitch", [-90, -60, 0, 30])
def test_level_cameras_wherever_they_look(pitch: float, orientation: int) -> None:
    images = [camera(heading, pitch, orientation) for heading in range(0, 360, 30)]
    assert angle(up_direction(images, {"a": orientation})) < 0.01


def test_a_third_held_askew_changes_little() -> None:
    images = [camera(h, -20, roll=90 if h % 3 == 0 else 0) for h in range(0, 360, 10)]
    assert angle(up_direction(images, {})) < 1


def test_where_all_look_the_same_way_the_tops_decide() -> None:
    images = [camera(heading, 0) for heading in (0, 1, 2, 3)]
    assert angle(up_direction(images, {})) < 0.01
    assert angle(up_direction(images[:1], {})) < 0.01


unit = (
    st.tuples(*[st.floats(-1, 1)] * 3)
    .map(np.array)
    .filter(lambda v: np.linalg.norm(v) > 0.1)
    .map(lambda v: v / np.linalg.norm(v))
)


@given(unit, unit)
def test_rotations_bring_one_direction_to_another(start: Array, end: Array) -> None:
    for other in (end, start, -start):
        rotation = rotation_between(start, other)
        assert_allclose(rotation @ start, other, atol=1e-6)
        assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(rotation) > 0
