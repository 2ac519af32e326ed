"""Epipolar planes of a model with known cameras, and matching with them."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.features import Features
from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix
from posfeat_hloc.sfm.guided_matching import BAND, View, epipolar_planes, match_guided, view_of
from posfeat_hloc.stores import FeatureStore, MatchStore
from tests.rendering import arc, view_from

SIZE = (640, 480)
FORWARD = [view_from(np.array([0.0, 0.0, z]), np.array([0.1, 0.0, 6.0])) for z in (0.0, 1.5)]  # epipoles in the image


def model_of(views, names=("a.jpg", "b.jpg", "c.jpg")) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    params = [480.0, 490.0, 318.0, 243.0, -0.15, 0.06, 0.002, -0.001]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="OPENCV", width=SIZE[0], height=SIZE[1], params=params)
    )
    for number, (name, view) in enumerate(zip(names, views, strict=False)):
        image = pycolmap.Image(name=name, camera_id=1, image_id=number + 1)
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(view.rotation), view.translation)
        )
    return model


def project(model: pycolmap.Reconstruction, number: int, points: np.ndarray) -> np.ndarray:
    image = model.images[number]
    local = image.cam_from_world() * points
    return np.asarray(model.cameras[1].img_from_cam(local), np.float64) - 0.5


def views(model: pycolmap.Reconstruction, points: np.ndarray, deviation: float = 1.0) -> list[View]:
    return [view_of(model, model.images[n], project(model, n, points).astype(np.float32), deviation) for n in (1, 2)]


@pytest.mark.parametrize("cameras", [arc(2), FORWARD], ids=["sideways", "forward"])
def test_counterparts_lie_in_the_same_half_plane(cameras) -> None:
    model = model_of(cameras)
    points = np.random.default_rng(0).uniform([-1.5, -1, 5], [1.5, 1, 8], size=(300, 3))
    planes0, planes1 = epipolar_planes(*views(model, points))
    apart = (planes0.angles - planes1.angles).abs().numpy()
    apart = np.minimum(apart, 2 * np.pi - apart)
    assert (apart < 0.02 * (planes0.tolerances + planes1.tolerances).numpy()).all()  # float32 keypoints
    assert planes0.angles.numpy().std() > 0.01


def test_a_tolerance_is_some_deviations_from_the_epipolar_line() -> None:
    """Moving a keypoint across its line by one deviation turns its plane by a tolerance over BAND."""
    model = model_of(arc(2))
    points = np.random.default_rng(1).uniform([-1.5, -1, 5], [1.5, 1, 8], size=(200, 3))
    first, second = views(model, points, deviation=1.5)
    relative = model.images[2].cam_from_world() * model.images[1].cam_from_world().inverse()
    _, planes1 = epipolar_planes(first, second)
    pixels = project(model, 2, points)
    camera = model.cameras[1]
    for step in ([0.0, 1.0], [1.0, 0.0]):
        moved = (pixels + step).astype(np.float32)
        _, turned = epipolar_planes(first, view_of(model, model.images[2], moved, 1.5))
        on_plane = [np.asarray(camera.cam_from_img(np.asarray(p, np.float64) + 0.5)) for p in (pixels, moved)]
        start = np.asarray(camera.cam_from_img(project(model, 1, points) + 0.5))
        _, error = epipolar_errors(
            essential_matrix(relative.rotation.matrix(), relative.translation), start, on_plane[1]
        )
        expected = error / camera.cam_from_img_threshold(1.5) / BAND * planes1.tolerances.numpy()
        found = (turned.angles - planes1.angles).abs().numpy()
        np.testing.assert_allclose(found, expected, rtol=0.1, atol=2e-5)


def test_cameras_at_the_same_place_have_no_planes() -> None:
    model = model_of([arc(1)[0], arc(1)[0]])
    points = np.random.default_rng(0).uniform([-1.5, -1, 5], [1.5, 1, 8], size=(10, 3))
    assert epipolar_planes(*views(model, points)) is None


def test_all_keypoints_are_matched_and_kept_until_the_geometry_changes(tmp_path: Path) -> None:
    model = model_of(arc(3))
    rng = np.random.default_rng(2)
    points = rng.uniform([-1.5, -1, 5], [1.5, 1, 8], size=(400, 3))
    looks = rng.normal(size=(400, 32))
    order = {number: rng.permutation(400) for number in (1, 2, 3)}
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        for number, rows in order.items():
            noisy = looks[rows] + 0.3 * rng.normal(size=(400, 32))
            descriptors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
            keypoints = project(model, number, points[rows]).astype(np.float32)
            store.write(f"{'abc'[number - 1]}.jpg", Features(keypoints, np.ones(400, np.float32), descriptors), SIZE)
        store.commit()
    pairs = [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    arguments = (model, pairs, tmp_path / "f.h5", tmp_path / "m.h5", {"model": {"name": "nearest"}})
    assert match_guided(*arguments, "one", progress=False).matched == 2
    with MatchStore(tmp_path / "m.h5") as store:
        found = store.read("a.jpg", "b.jpg").pairs()
    right = order[1][found[:, 0]] == order[2][found[:, 1]]
    assert right.sum() > 380
    assert right.mean() > 0.95
    assert match_guided(*arguments, "one", progress=False).reused == 2
    assert match_guided(*arguments, "two", progress=False).matched == 2
