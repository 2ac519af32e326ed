from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.models import epipolar_distances, landmarks, registered_names
from tests.training.test_posed_colmap import write_scene


@pytest.fixture(scope="module", params=["pinhole", "radial"])
def model(request, tmp_path_factory) -> pycolmap.Reconstruction:
    return write_scene(tmp_path_factory.mktemp("scene") / "s", request.param)


def common_points(model, name0, name1):
    """Observations of the same 3D points, (0, 0) at the centre of the first pixel."""
    images = {image.name: image for image in model.images.values()}
    seen = [{p.point3D_id: np.array(p.xy) - 0.5 for p in images[n].points2D if p.has_point3D()} for n in (name0, name1)]
    both = sorted(seen[0].keys() & seen[1].keys())
    return np.array([seen[0][i] for i in both]), np.array([seen[1][i] for i in both])


def test_landmarks_are_the_points_with_a_third_dimension(model):
    name = registered_names(model)[1]
    image = next(i for i in model.images.values() if i.name == name)
    some = [i for i, p in enumerate(image.points2D) if p.has_point3D()][:3]
    for i in some:
        model.delete_observation(image.image_id, i)
    keypoints, is_landmark = landmarks(model, name)
    assert len(keypoints) == len(is_landmark) == len(image.points2D)
    np.testing.assert_allclose(keypoints[some[0]] + 0.5, image.points2D[some[0]].xy)
    assert not is_landmark[some].any()
    assert is_landmark.sum() == image.num_points3D


def test_true_matches_lie_on_their_lines_and_moved_ones_do_not(model):
    names = registered_names(model)
    points0, points1 = common_points(model, names[0], names[2])
    assert len(points0) > 20
    np.testing.assert_allclose(epipolar_distances(model, names[0], names[2], points0, points1), 0, atol=1e-6)
    shifts = np.array([[5.0, 0], [0, 5]])
    moved = np.array([epipolar_distances(model, names[0], names[2], points0, points1 + s) for s in shifts])
    assert (moved.max(axis=0) > 2).mean() > 0.9  # a line cannot be parallel to both axes
    wrong_pixel = epipolar_distances(model, names[0], names[2], points0 + 0.5, points1 + 0.5)
    assert wrong_pixel.max() > 0.01


def test_distances_are_in_the_pixels_of_each_image():
    """Two cameras that look the same way from one height: lines are rows, and v0 / f0 = v1 / f1."""
    model = pycolmap.Reconstruction()
    for i, focal in enumerate((500.0, 1500.0), 1):
        camera = pycolmap.Camera(camera_id=i, model="SIMPLE_PINHOLE", width=640, height=480, params=[focal, 320, 240])
        model.add_camera_with_trivial_rig(camera)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-1.0 * i, 0, 0]))
        model.add_image_with_trivial_frame(pycolmap.Image(name=f"{i}.jpg", camera_id=i, image_id=i), pose)
    points0, points1 = np.array([[319.5, 249.5], [99.5, 239.5]]), np.array([[319.5, 269.5], [9.5, 245.5]])
    found = epipolar_distances(model, "1.jpg", "2.jpg", points0, points1)
    np.testing.assert_allclose(found, [0, 6], atol=1e-9)
    np.testing.assert_allclose(epipolar_distances(model, "2.jpg", "1.jpg", points1, points0), [0, 6], atol=1e-9)


def test_unknown_images_are_named(model):
    with pytest.raises(MappingError, match=r"'none.jpg' has no pose in the model; 5 images have: "):
        landmarks(model, "none.jpg")
