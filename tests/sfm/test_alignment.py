"""A model that is made anew with more images lies where it was, also after a kill; one of the same images stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose

from posfeat_hloc.sfm.alignment import keep_frame, remember_frame
from posfeat_hloc.sfm.models import read_model

MOVE = pycolmap.Sim3d(4.0, pycolmap.Rotation3d(np.array([1, 2, -3, 9.0]) / np.sqrt(95)), np.array([5.0, -2.0, 1.0]))


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, pycolmap.Reconstruction]:
    """An output folder with a model of six of eight images, and the model of all."""
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1)
    options.num_frames_per_rig, options.num_points3D = 8, 20
    model = pycolmap.synthesize_dataset(options)
    write(model, tmp_path)
    part = read_model(tmp_path / "sparse/0")
    for frame_id in sorted(part.reg_frame_ids())[6:]:
        part.deregister_frame(frame_id)
    write(part, tmp_path)
    return tmp_path, model


def write(model: pycolmap.Reconstruction, output: Path) -> None:
    (output / "sparse/0").mkdir(parents=True, exist_ok=True)
    model.write(output / "sparse/0")


def test_added_photographs_change_no_frame(run: tuple[Path, pycolmap.Reconstruction]) -> None:
    output, model = run
    remember_frame(output)
    expected = {image.name: image.cam_from_world().matrix() for image in model.images.values()}
    model.transform(MOVE)
    write(model, output)  # the run is killed here, and begins again with another model
    remember_frame(output)
    assert keep_frame(output).startswith("as before, by 6 photographs, now at a median distance of ")
    found = {image.name: image.cam_from_world().matrix() for image in read_model(output / "sparse/0").images.values()}
    assert found.keys() == expected.keys()
    for name, pose in expected.items():
        assert_allclose(found[name], pose, atol=1e-9)
    assert not (output / "previous").exists()


def test_the_same_images_stay_to_the_last_digit(run: tuple[Path, pycolmap.Reconstruction]) -> None:
    output, _ = run
    assert keep_frame(output) == ""
    remember_frame(output)
    model = read_model(output / "sparse/0")
    model.transform(MOVE)
    write(model, output)
    before = (output / "sparse/0/images.bin").read_bytes()
    assert keep_frame(output) == ""
    assert (output / "sparse/0/images.bin").read_bytes() == before


def test_too_few_common_images_are_said(run: tuple[Path, pycolmap.Reconstruction]) -> None:
    output, model = run
    part = read_model(output / "sparse/0")
    for frame_id in sorted(part.reg_frame_ids())[2:]:
        part.deregister_frame(frame_id)
    write(part, output)
    remember_frame(output)
    write(model, output)
    assert keep_frame(output) == "another than before: only 2 photographs are in both models"
