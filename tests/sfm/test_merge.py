"""Two halves of one synthetic model, one moved, become one again; two that have nothing in common stay apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose

from posfeat_hloc.sfm.merge import merge_models
from posfeat_hloc.sfm.models import read_model

MOVE = pycolmap.Sim3d(0.3, pycolmap.Rotation3d(np.array([1, 2, -3, 9.0]) / np.sqrt(95)), np.array([5.0, -2.0, 1.0]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database and its model of eight images, all of which see all points."""
    folder = tmp_path_factory.mktemp("merge")
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1)
    options.num_frames_per_rig, options.num_points3D = 8, 80
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(folder / "database.db") as db:
        model = pycolmap.synthesize_dataset(options, db)
    (folder / "model").mkdir()
    model.write(folder / "model")
    return folder / "database.db", folder / "model"


def half(path: Path, kept: set[int]) -> pycolmap.Reconstruction:
    model = read_model(path)
    for frame_id in sorted(model.reg_frame_ids()):
        if frame_id not in kept:
            model.deregister_frame(frame_id)
    return model


def test_halves_become_one(scene: tuple[Path, Path]) -> None:
    database, path = scene
    whole = read_model(path)
    frames = sorted(whole.reg_frame_ids())
    first, second = half(path, set(frames[:4])), half(path, set(frames[4:]))
    second.transform(MOVE)
    merged, joined = merge_models([first, second], database)
    assert [(one.number, one.agreed > 50) for one in joined] == [(1, True)]
    assert merged.num_reg_images() == 8
    truth = {image.name: image.cam_from_world().matrix() for image in whole.images.values()}
    for image in merged.images.values():
        exact = image.frame_id in frames[:4]
        assert_allclose(image.cam_from_world().matrix(), truth[image.name], atol=0 if exact else 1e-4)
    assert merged.num_points3D() == pytest.approx(whole.num_points3D(), abs=3)
    assert merged.compute_mean_track_length() == pytest.approx(whole.compute_mean_track_length(), rel=0.05)


def test_models_without_common_points_stay_apart(scene: tuple[Path, Path]) -> None:
    database, path = scene
    frames = sorted(read_model(path).reg_frame_ids())
    first, second = half(path, set(frames[:4])), half(path, set(frames[4:]))
    rng = np.random.default_rng(0)
    for point in second.points3D.values():  # another shape
        point.xyz = rng.normal(size=3)
    merged, joined = merge_models([first, second], database)
    assert joined == []
    assert merged.num_reg_images() == 4
