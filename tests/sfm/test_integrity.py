"""Lengths of binary models, against models that COLMAP wrote and every way to cut them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.integrity import check_lengths
from posfeat_hloc.sfm.models import read_model, write_model
from tests.fuzzing.model_readers import model


def with_a_rig_of_two_cameras() -> pycolmap.Reconstruction:
    made = pycolmap.Reconstruction()
    cameras = [pycolmap.Camera.create_from_model_name(i, "OPENCV", 400.0, 400, 300) for i in (1, 2)]
    rig = pycolmap.Rig(rig_id=1)
    for camera in cameras:
        made.add_camera(camera)
    rig.add_ref_sensor(cameras[0].sensor_id)
    rig.add_sensor(cameras[1].sensor_id, pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.1, 0, 0])))
    made.add_rig(rig)
    return made


@pytest.mark.parametrize("make", [model, with_a_rig_of_two_cameras, pycolmap.Reconstruction])
def test_whole_models_are_exactly_as_long_as_they_say(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make().write_binary(tmp_path)
    check_lengths(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"{path.name} is truncated"):
                check_lengths(tmp_path)
        path.write_bytes(content)
    check_lengths(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"])
@pytest.mark.parametrize("count", [6, 1 << 20, (1 << 64) - 1])
def test_absurd_numbers_are_refused_at_once(tmp_path: Path, name: str, count: int) -> None:
    """COLMAP alone would read on for ever."""
    model().write_binary(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(struct.pack("<Q", count) + content[8:])
    with pytest.raises(MappingError, match=rf"no COLMAP model can be read .*{name} is truncated"):
        read_model(tmp_path)


def test_models_of_earlier_versions_have_fewer_files(tmp_path: Path) -> None:
    model().write_binary(tmp_path)
    (tmp_path / "rigs.bin").unlink()
    (tmp_path / "frames.bin").unlink()
    assert read_model(tmp_path).num_reg_images() == 3
    (tmp_path / "points3D.bin").unlink()
    with pytest.raises(MappingError, match=r"there is no points3D\.bin"):
        read_model(tmp_path)


def test_a_model_that_is_cut_while_it_is_written_is_refused(tmp_path: Path) -> None:
    class OnAFullDisk:
        """COLMAP writes what fits and says nothing."""

        def write(self, folder: Path) -> None:
            model().write_binary(folder)
            content = (folder / "points3D.bin").read_bytes()
            (folder / "points3D.bin").write_bytes(content[:100])

    with pytest.raises(MappingError, match=r"cannot be written .*run again"):
        write_model(OnAFullDisk(), tmp_path)
    write_model(model(), tmp_path)
    assert len(read_model(tmp_path).points3D) == 5
