"""Pairs beside slow loops over a synthetic model."""

from collections import Counter

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.sfm import covisibility
from posfeat_hloc.sfm.covisibility import covisibility_pairs, pose_pairs

IMAGES = 23


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random cameras far from the origin, and points seen by random images, by some of them twice."""
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=10, height=10, params=[9.0, 5.0, 5.0])
    )
    for i in range(IMAGES):
        rotation = pycolmap.Rotation3d(np.array([0.0, 1.0, 0.0]) * rng.uniform(0, np.pi))
        centre = np.array([4e5, 3e5, 0]) + rng.uniform(-10, 10, 3)
        pose = pycolmap.Rigid3d(rotation, -(rotation.matrix() @ centre))
        image = pycolmap.Image(name=f"db/{(i * 7) % IMAGES:02d} x.jpg", camera_id=1, image_id=i + 5)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0])) for _ in range(200)])
        model.add_image_with_trivial_frame(image, pose)
    used = Counter()
    for _ in range(150):
        track = pycolmap.Track()
        # the first images see most, the last one nothing
        seen = set((rng.random(rng.integers(2, 6)) ** 2 * (IMAGES - 1)).astype(int).tolist())
        for i in [*seen, *list(seen)[:1]]:
            track.add_element(i + 5, used[i])
            used[i] += 1
        model.add_point3D(rng.uniform(-1, 1, 3), track)
    folder = tmp_path_factory.mktemp("model")
    model.write(folder)
    return folder


def names(model):
    return sorted(image.name for image in pycolmap.Reconstruction(model).images.values())


@pytest.mark.parametrize("count", [1, 4, 100])
def test_covisibility_agrees_with_a_loop_over_points(model, count):
    reconstruction = pycolmap.Reconstruction(model)
    shared = {name: Counter() for name in names(model)}
    for point in reconstruction.points3D.values():
        seen = {reconstruction.images[element.image_id].name for element in point.track.elements}
        for a in seen:
            for b in seen - {a}:
                shared[a][b] += 1
    expected = []
    for a in names(model):
        expected += [(a, b) for b in sorted(shared[a], key=lambda b: (-shared[a][b], b))[:count]]
    assert covisibility_pairs(model, count) == expected
    assert len({a for a, _ in expected}) == IMAGES - 1


@pytest.mark.parametrize("rows", [1, 5, 128])
@pytest.mark.parametrize(("count", "max_angle"), [(3, 30), (100, 30), (5, 75), (100, 180)])
def test_poses_agree_with_a_loop_over_images(model, count, max_angle, rows, monkeypatch):
    monkeypatch.setattr(covisibility, "_ROWS", rows)
    images = {image.name: image for image in pycolmap.Reconstruction(model).images.values()}
    expected = []
    for a in names(model):
        near = []
        for b in names(model):
            pose0, pose1 = (images[name].cam_from_world() for name in (a, b))
            axis0, axis1 = (pose.rotation.matrix()[2] for pose in (pose0, pose1))
            centre0, centre1 = (pose.inverse().translation for pose in (pose0, pose1))
            angle = np.degrees(np.arccos(np.clip(axis0 @ axis1, -1, 1)))
            if a != b and angle < max_angle:
                near.append((np.linalg.norm(centre0 - centre1), b))
        expected += [(a, b) for _, b in sorted(near)[:count]]
    assert pose_pairs(model, count, max_angle) == expected


def test_a_model_without_points_has_no_covisibility(model, tmp_path):
    reconstruction = pycolmap.Reconstruction(model)
    reconstruction.delete_all_points2D_and_points3D()
    reconstruction.write(tmp_path)
    assert covisibility_pairs(tmp_path, 3) == []
    assert len(pose_pairs(tmp_path, 3, 180)) == 3 * IMAGES


def test_bad_input_is_named(model, tmp_path):
    with pytest.raises(MappingError, match="no COLMAP model"):
        covisibility_pairs(tmp_path / "nowhere", 3)
    for pairs in (covisibility_pairs, pose_pairs):
        with pytest.raises(ConfigurationError, match="at least one neighbour"):
            pairs(model, 0)
    with pytest.raises(ConfigurationError, match="max_angle"):
        pose_pairs(model, 3, 0)


@pytest.mark.hloc
def test_hloc_pairs_the_same_images(model, tmp_path):
    pairs_from_poses = pytest.importorskip("hloc.pairs_from_poses", reason="hloc is not installed")
    pairs_from_poses.main(model, tmp_path / "poses.txt", 4, 30)
    lines = (tmp_path / "poses.txt").read_text().splitlines()
    ours = [f"{a} {b}" for a, b in pose_pairs(model, 4, 30)]
    assert sorted(lines) == sorted(ours)
