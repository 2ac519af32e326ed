"""Pairs of a model in a pack: points, poses and calibrations in the pixels of the stored photographs."""

import numpy as np
import pycolmap
import pytest
from PIL import Image

from posfeat_hloc.training.model_pairs import add_model
from posfeat_hloc.training.view_pack import PackWriter, read_pack


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two synthetic cameras of 400 x 300 pixels that see 200 points, and black photographs of that size."""
    folder = tmp_path_factory.mktemp("model")
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=3, num_points3D=200,
        camera_width=400, camera_height=300, camera_model_id=pycolmap.CameraModelId.SIMPLE_PINHOLE,
        camera_params=[350, 200, 150],
    )  # fmt: skip
    pycolmap.set_random_seed(0)
    reconstruction = pycolmap.synthesize_dataset(options)
    (folder / "sparse").mkdir()
    reconstruction.write(folder / "sparse")
    for image in reconstruction.images.values():
        path = folder / "images" / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 300)).save(path)
    return folder, reconstruction


def test_points_and_poses_agree_in_stored_pixels(model, tmp_path):
    folder, reconstruction = model
    with PackWriter(tmp_path / "views.h5", max_size=200) as writer:
        count = add_model(writer, folder / "sparse", folder / "images", most=100, seed=0)
    pack = read_pack(tmp_path / "views.h5")
    assert count == len(pack.pairs) > 0
    assert {image.shape for image in pack.images} == {(150, 200, 3)}
    images = {image.name: image for image in reconstruction.images.values()}
    for pair in pack.pairs:
        # half the size: focal length and principal point halve, in pixels whose centres are whole numbers
        expected = [[175, 0, 99.5], [0, 175, 74.5], [0, 0, 1]]
        np.testing.assert_allclose(pair.calibrations, [expected, expected])
        ones = np.ones(len(pair.points))
        lines = np.c_[pair.points[:, :2], ones] @ pair.fundamental.T
        distance = np.abs((lines * np.c_[pair.points[:, 2:], ones]).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
        assert np.median(distance) < 1.5
        stored = np.array([p.xy for p in images[pack.names[pair.image0]].points2D if p.has_point3D()]) / 2 - 0.5
        nearest = np.linalg.norm(stored[None] - pair.points[:, None, :2], axis=2).min(axis=1)
        assert nearest.max() < 1e-3


def test_no_more_pairs_than_asked_for(model, tmp_path):
    with PackWriter(tmp_path / "views.h5") as writer:
        assert add_model(writer, model[0] / "sparse", model[0] / "images", most=1, seed=0) == 1
