"""Cameras that no lens has, and focal lengths that the photographs do not determine."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray

from posfeat_hloc.sfm.diagnosis.camera_check import CameraDoubt, doubtful_cameras, focal_deviations, impossible, told
from tests.rendering import view_from

SIZE = (640, 480)
Array = NDArray[np.float64]


def camera(model: str, *params: float) -> pycolmap.Camera:
    found = pycolmap.Camera.create_from_model_name(1, model, 1.0, *SIZE)
    found.params = list(params)
    return found


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (camera("SIMPLE_RADIAL", 500, 320, 240, -0.1), None),
        (camera("SIMPLE_RADIAL", 300, 320, 240, -0.12), None),  # a wide lens with a barrel
        (camera("OPENCV_FISHEYE", 215, 215, 320, 240, 0.01, 0, 0, 0), None),
        (camera("SIMPLE_PINHOLE", 60, 320, 240), "60 px, 0.094 times the longer side"),
        (camera("SIMPLE_RADIAL", 50000, 320, 240, 0), "50000 px, 78 times the longer side"),
        (camera("SIMPLE_RADIAL", 300, 320, 240, -0.6), "folds the image 37 degrees off the axis"),
        (camera("PINHOLE", 300, 900, 320, 240), "300 and 900 px along the sides"),
    ],
)
def test_lenses_that_can_be_and_that_cannot(made: pycolmap.Camera, what: str | None) -> None:
    finding = impossible(made)
    assert (finding is None) == (what is None), finding
    if what is not None:
        assert finding is not None
        assert what in finding


def test_panoramas_are_never_doubted() -> None:
    assert impossible(pycolmap.Camera.create_from_model_name(1, "EQUIRECTANGULAR", 1.0, 1024, 512)) is None


def model_of(centres: Array, noise: float, focal: float = 500.0) -> pycolmap.Reconstruction:
    """Cameras that look at the middle of a cloud of points, seen with noise, adjusted."""
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    taken = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", focal, *SIZE)
    model.add_camera_with_trivial_rig(taken)
    points = np.column_stack([rng.uniform(-4, 4, 150), rng.uniform(-3, 3, 150), rng.uniform(9, 13, 150)])
    ids = [model.add_point3D(point, pycolmap.Track()) for point in points]
    for number, centre in enumerate(centres, 1):
        view = view_from(centre, np.array([0.0, 0.0, 11.0]))
        pixels = taken.img_from_cam(points @ view.rotation.T + view.translation) + rng.normal(0, noise, (150, 2))
        image = pycolmap.Image(name=f"{number}.jpg", camera_id=1, image_id=number,
                               points2D=pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in pixels]))  # fmt: skip
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(view.rotation), view.translation)
        )
        for row, point_id in enumerate(ids):
            model.add_observation(point_id, pycolmap.TrackElement(number, row))
    pycolmap.bundle_adjustment(model)
    model.update_point_3d_errors()
    return model


def test_moving_straight_ahead_leaves_the_focal_length_open() -> None:
    """Its standard deviation is that of repeated estimates; from the side it is small."""
    ahead = np.column_stack([np.zeros(5), np.zeros(5), np.linspace(0, 0.8, 5)])
    (doubt,) = doubtful_cameras(model_of(ahead, 0.7))
    assert not doubt.determined
    assert "px is known to" in doubt.finding
    assert "moving straight ahead" in told([doubt], 1)[0]
    aside = np.column_stack([np.linspace(-3, 3, 5), np.array([0, 1, 0, -1, 0.0]), np.zeros(5)])
    assert doubtful_cameras(model_of(aside, 0.7)) == []
    assert doubtful_cameras(model_of(ahead, 0.7), refined=False) == []


def test_deviations_are_those_of_the_estimates() -> None:
    """The focal length found is off by a few of its standard deviations at most, and they grow with the noise."""
    aside = np.column_stack([np.linspace(-3, 3, 5), np.array([0, 1, 0, -1, 0.0]), np.linspace(0, 1, 5)])
    found = {}
    for noise in (0.3, 1.2):
        model = model_of(aside, noise)
        found[noise] = focal_deviations(model, [1])[1]
        assert abs(model.cameras[1].focal_length / 500 - 1) < 4 * found[noise]
    assert found[1.2] / found[0.3] == pytest.approx(4, rel=0.15)


def test_several_cameras_are_one_sentence() -> None:
    doubts = [CameraDoubt((f"{i}.jpg",), "folds", True) for i in range(4)]
    (text,) = told(doubts, 9)
    assert text.startswith("4 of 9 cameras, such as: folds (0.jpg); the model is wrong or bent; try camera=single")
