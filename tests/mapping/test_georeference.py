"""Models in the world: a known model, moved, is brought back to where its GPS positions say it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.mapping.georeference import georeference, read_georeference
from posfeat_hloc.mapping.gps import LocalPositions
from posfeat_hloc.mapping.reconstruction import read_model

ORIGIN = (48.0, 2.0, 30.0)
Array = NDArray[np.float64]


def write_model(folder: Path, centres: Array) -> pycolmap.Reconstruction:
    """A model of one camera a centre, seeing a few points."""
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=len(centres),
                                               num_points3D=20)  # fmt: skip
    model = pycolmap.synthesize_dataset(options)
    for image, centre in zip(sorted(model.images.values(), key=lambda i: i.name), centres, strict=True):
        rotation = image.cam_from_world().rotation
        image.frame.rig_from_world = pycolmap.Rigid3d(rotation, -(rotation.matrix() @ centre))
    folder.mkdir(parents=True)
    model.write(folder)
    return model


def names_of(model: pycolmap.Reconstruction) -> list[str]:
    return sorted(image.name for image in model.images.values())


def centres_of(folder: Path) -> Array:
    images = read_model(folder).images.values()
    return np.array([image.projection_center() for image in sorted(images, key=lambda i: i.name)])


@pytest.fixture
def truth() -> Array:
    return np.random.default_rng(0).uniform(-30, 30, (8, 3))


def test_a_model_comes_back_to_metres(tmp_path: Path, truth: Array) -> None:
    """Exactly, but for one position that is far off and does not count."""
    model = write_model(tmp_path / "sparse/0", truth)
    points = {i: point.xyz.copy() for i, point in model.points3D.items()}
    rotation = pycolmap.Rotation3d(np.array([0.1, 0.7, -0.2, 0.4]) / np.linalg.norm([0.1, 0.7, -0.2, 0.4]))
    model.transform(pycolmap.Sim3d(0.05, rotation, np.array([3.0, -1, 2])))
    model.write(tmp_path / "sparse/0")
    metres = dict(zip(names_of(model), truth.copy(), strict=True))
    metres[names_of(model)[3]] = metres[names_of(model)[3]] + [0, 400, 0]
    del metres[names_of(model)[5]]
    found = georeference(tmp_path / "sparse", LocalPositions(ORIGIN, metres, 5.0))
    assert_allclose(centres_of(tmp_path / "sparse/0"), truth, atol=1e-6)
    moved = read_model(tmp_path / "sparse/0").points3D
    assert all(np.allclose(moved[i].xyz, xyz, atol=1e-6) for i, xyz in points.items())
    (alignment,) = found.models
    assert (alignment.model, alignment.positions, alignment.aligned, alignment.note) == (0, 7, True, "")
    assert alignment.distance < 1e-6
    assert found.origin == ORIGIN
    assert read_georeference(tmp_path / "sparse") == found


def test_too_few_positions_leave_the_model_as_it_is(tmp_path: Path, truth: Array) -> None:
    model = write_model(tmp_path / "sparse/0", truth)
    metres = dict.fromkeys(names_of(model)[:2], np.zeros(3))
    (alignment,) = georeference(tmp_path / "sparse", LocalPositions(ORIGIN, metres, 5.0)).models
    assert not alignment.aligned
    assert "only 2 of its 8 images have a GPS position, 3 are needed" in alignment.note
    assert_allclose(centres_of(tmp_path / "sparse/0"), truth, atol=1e-9)


def test_doubts_are_said(tmp_path: Path, truth: Array) -> None:
    line = truth * [1, 0.01, 0.01]
    model = write_model(tmp_path / "line/0", line)
    metres = dict(zip(names_of(model), line, strict=True))
    assert "on a line" in georeference(tmp_path / "line", LocalPositions(ORIGIN, metres, 5.0)).models[0].note
    model = write_model(tmp_path / "small/0", truth / 30)
    noise = np.random.default_rng(1).normal(0, 2, truth.shape)
    metres = dict(zip(names_of(model), truth / 30 + noise, strict=True))
    assert "too coarse" in georeference(tmp_path / "small", LocalPositions(ORIGIN, metres, 5.0)).models[0].note


def test_a_record_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "georeference.json").write_text("{}")
    with pytest.raises(MappingError, match=r"georeference\.json: cannot be read"):
        read_georeference(tmp_path)
