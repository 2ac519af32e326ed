"""The first command of somebody without photographs."""

import json

import numpy as np
import pycolmap
import pytest

from pipelines import sfm
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.rendering import demo
from posfeat_hloc.stores import FeatureStore


@pytest.fixture
def few(monkeypatch):
    """Five views are enough here."""
    monkeypatch.setattr(demo, "VIEWS", 5)


def test_the_demo_finds_its_cameras(few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sfm.main(["--demo", "--feature", "sift", "--quiet", "--no-report"]) == 0
    output = tmp_path / "outputs/demo"
    found = json.loads((output / "summary.json").read_text())
    assert found["registered"] == found["images"] == 5
    assert found["against_truth"]["images"] == 5
    assert found["against_truth"]["median_rotation"] < 0.3
    assert found["against_truth"]["median_position"] < 0.01
    said = capsys.readouterr().out
    assert f"camera errors       {found['against_truth']['median_rotation']:.3f} degrees" in said
    assert found["cameras"] == 1  # by EXIF, as of photographs of one camera
    with FeatureStore(output / "features.h5") as store:
        assert max(len(store.keypoints(name)) for name in store.names()) <= 1500


def test_rendering_goes_on_where_it_stopped(few, tmp_path):
    truth = demo.write_photographs(tmp_path, progress=False)
    names = list_images(tmp_path)
    assert names == list(truth)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    (tmp_path / names[2]).unlink()
    (tmp_path / f".{names[2]}").write_bytes(b"half a picture")
    demo.write_photographs(tmp_path, progress=False)
    assert {name: (tmp_path / name).read_bytes() for name in list_images(tmp_path)} == before
    assert [n for n in names if (tmp_path / n).stat().st_mtime_ns != times[n]] == [names[2]]


def test_exif_says_the_true_focal_length(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "VIEWS", 1)
    demo.write_photographs(tmp_path, progress=False)
    bitmap = pycolmap.Bitmap.read(tmp_path / "square_01.jpg", False)
    assert bitmap.exif_focal_length() == pytest.approx(demo._camera().focal_length)


def test_errors_are_relative_to_the_path():
    from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera

    truth = {n: TrueCamera(np.eye(3), np.array([x, 0.0, 0.0])) for n, x in (("a", 0), ("b", 3), ("c", 8))}
    errors = PoseErrors(["a", "b", "c"], np.array([1.0, 2.0, 9.0]), np.array([0.4, 0.1, 0.8]))
    assert demo.relative_errors(errors, truth) == {"images": 3, "median_rotation": 2.0, "median_position": 0.05}


@pytest.mark.parametrize("arguments", [[], ["--demo", "--images", "x"]])
def test_either_photographs_or_the_demo(arguments, capsys):
    assert sfm.main(arguments) == 2
    assert "--demo" in capsys.readouterr().err
