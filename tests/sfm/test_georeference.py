"""Models in the world: a known model, moved, is brought back to where its GPS positions say it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.georeference import Alignment, _doubts, georeference, read_georeference
from posfeat_hloc.sfm.gps import LocalPositions
from posfeat_hloc.sfm.models import read_model

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


def aligned(folder: Path, centres: Array, metres: Array, error: float = 5.0) -> Alignment:
    """The first model of a folder with these positions."""
    model = write_model(folder / "sparse/0", centres)
    places = dict(zip(names_of(model), metres, strict=True))
    return georeference(folder / "sparse", LocalPositions(ORIGIN, places, error)).models[0]


def test_rounded_positions_are_refused(tmp_path: Path, truth: Array) -> None:
    """Two places cannot say how large a model is, however well the cameras fit them."""
    rounded = np.where(truth[:, :1] > 0, [[71.0, 111.0, 0.0]], [[0.0, 0.0, 0.0]])
    found = aligned(tmp_path, truth, rounded)
    assert not found.aligned
    assert "its 8 GPS positions are only 2 different places, 3 are needed: they look rounded" in found.note
    assert_allclose(centres_of(tmp_path / "sparse/0"), truth, atol=1e-9)


def test_rounding_to_a_coarse_grid_is_refused(tmp_path: Path) -> None:
    path = np.random.default_rng(0).uniform(-60, 60, (12, 3))
    found = aligned(tmp_path, path, np.round(path / 100) * 100)
    assert not found.aligned
    assert "GPS positions" in found.note


def test_identical_positions_are_called_so(tmp_path: Path, truth: Array) -> None:
    found = aligned(tmp_path, truth, np.full((8, 3), 4.0))
    assert found.note == "its 8 GPS positions are identical"


def test_a_span_below_the_threshold_is_refused(tmp_path: Path, truth: Array) -> None:
    noise = np.random.default_rng(1).normal(0, 2, truth.shape)
    found = aligned(tmp_path / "small", truth / 30, truth / 30 + noise)
    assert not found.aligned
    assert "less than the 15 m that they may be off" in found.note
    assert aligned(tmp_path / "exact", truth / 30, truth / 30, error=0.02).aligned  # of an RTK receiver


def test_an_outlier_is_named_with_its_distance(tmp_path: Path, truth: Array) -> None:
    metres = truth.copy()
    metres[3] += [0, 555_000, 0]
    found = aligned(tmp_path, truth, metres + np.random.default_rng(2).normal(0, 0.5, truth.shape))
    assert (found.aligned, found.positions, found.inliers) == (True, 8, 7)
    ((name, off),) = found.outliers.items()
    assert name == names_of(read_model(tmp_path / "sparse/0"))[3]
    assert off == pytest.approx(555_000, rel=1e-3)
    assert 0.2 < found.distance < found.maximum < 3
    assert read_georeference(tmp_path / "sparse").models == [found]


def test_most_positions_wrong(tmp_path: Path, truth: Array) -> None:
    metres = truth.copy()
    metres[3:] = np.random.default_rng(3).uniform(-900, 900, (5, 3))
    found = aligned(tmp_path, truth, metres)
    assert not found.aligned
    assert "of its 8 GPS positions" in found.note


def test_a_record_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "georeference.json").write_text("{}")
    with pytest.raises(MappingError, match=r"georeference\.json: cannot be read"):
        read_georeference(tmp_path)


def test_positions_at_one_height_determine_all_but_those_on_a_line_do_not() -> None:
    square = np.array([[0, 0, 5], [40, 0, 5], [0, 30, 5], [40, 30, 5]], float)
    assert _doubts(square, 0.1, 50.0) == ""
    line = np.outer(np.arange(5.0), [3, 4, 0])
    assert "lie on a line" in _doubts(line, 0.1, 20.0)
    assert "too coarse" in _doubts(square, 30.0, 50.0)
