"""The command on a rendered scene with true cameras, and how it reconstructs."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pipelines import eth
from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm import dense_stereo
from posfeat_hloc.sfm.models import ModelSummary, read_model
from posfeat_hloc.sfm.summary import SfmResult
from tests.cli import rows
from tests.rendering import HEIGHT, WIDTH, calibration, write_scene


def write_cameras(folder, views):
    folder.mkdir()
    for name, view in views.items():
        blocks = [calibration(), np.zeros((1, 3)), view.rotation.T, view.centre[None]]
        text = "\n".join(" ".join(map(str, row)) for block in blocks for row in block.tolist())
        (folder / f"{name}.camera").write_text(f"{text}\n{WIDTH} {HEIGHT}\n")


@pytest.fixture(scope="module")
def fountain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "fountain-P11"
    views = write_scene(folder / "images", 4)
    write_cameras(folder / "cameras", views)
    with sqlite3.connect(folder / "database.db") as database:
        database.execute("CREATE TABLE images (name TEXT)")
        database.executemany("INSERT INTO images VALUES (?)", [(name,) for name in [*sorted(views)[1:], "lost.png"]])
    database.close()
    return folder


@pytest.fixture(scope="module")
def finished(fountain, tmp_path_factory):
    output = tmp_path_factory.mktemp("eth")
    command = ["--dataset", str(fountain), "--output", str(output), "--features", "sift", "--threads", "1", "--quiet"]
    assert eth.main(command) == 0
    return output, command


def test_the_row_is_what_the_model_holds(finished):
    output, _ = finished
    table = rows(output / "eth.csv")
    mine = table[0]
    model = read_model(output / "fountain-P11/sift/sparse/0")
    assert (mine["numbers"], mine["images"], mine["registered"]) == ("measured here", "4", "4")
    assert int(mine["sparse points"]) == model.num_points3D()
    observations = sum(len(point.track.elements) for point in model.points3D.values())
    assert float(mine["obs./image"]) == pytest.approx(observations / 4)
    assert float(mine["track length"]) == pytest.approx(observations / model.num_points3D())
    assert float(mine["reproj. px"]) < 0.5
    assert float(mine["rotation deg"]) < 0.3
    assert float(mine["position"]) < 0.1
    assert mine["dense points"] == ""


def test_published_rows_stand_beside_with_their_source(finished):
    output, _ = finished
    published = rows(output / "eth.csv")[1:]
    assert {row["numbers"] for row in published} == {"D2D Table 2"}
    hardnet = next(row for row in published if row["feature"] == "HardNet+D2D")
    assert (hardnet["sparse points"], hardnet["track length"], hardnet["position"]) == ("20000", "6.27", "")
    assert (
        r"fountain-P11 & HardNet+D2D & D2D Table 2 & 11 & 11 & 20000 & 304000 & -- & 6.27"
        in (output / "eth.tex").read_text()
    )


def test_running_again_keeps_the_model_and_says_what_the_database_lists(finished, capsys):
    output, command = finished
    model = output / "fountain-P11/sift/sparse/0/points3D.bin"
    before = model.stat().st_mtime_ns
    assert eth.main([*command, "--dense"]) == 0
    assert model.stat().st_mtime_ns == before
    text = capsys.readouterr().out
    assert "1 images of its database.db are not in the folder: lost.png" in text
    assert "1 images are not in its database.db" in text
    assert dense_stereo.has_stereo() or "dense points were not computed: this pycolmap was built without CUDA" in text


def fake_sfm(monkeypatch, failing=()):
    commands = []

    def run(images, output, options, reporter):
        commands.append((images, output, options))
        if options.feature in failing:
            raise MappingError("it broke")
        return SfmResult(images=4, models=[ModelSummary("nowhere", 4, 10, 50, 5.0, 5.0, 0.5)])

    monkeypatch.setattr("posfeat_hloc.evaluation.eth.reconstruct", run)
    return commands


def test_options_reach_the_reconstructions(fountain, tmp_path, monkeypatch):
    commands = fake_sfm(monkeypatch)
    shutil.copytree(fountain / "images", tmp_path / "sets/a/images")
    shutil.copytree(fountain / "images", tmp_path / "sets/b/images")
    arguments = ["--dataset", str(tmp_path / "sets"), "--output", str(tmp_path / "out")]
    features = ["--features", "sift", "d2d-hardnet", "--weights", "d2d-hardnet=w.pth"]
    assert eth.main([*arguments, *features, "--max-keypoints", "99", "--exhaustive-up-to", "3"]) == 0
    assert [(images.parent.name, c.feature, c.weights) for images, _, c in commands] == [
        ("a", "sift", None), ("a", "d2d-hardnet", "w.pth"), ("b", "sift", None), ("b", "d2d-hardnet", "w.pth")
    ]  # fmt: skip
    assert {c.max_keypoints for _, _, c in commands} == {99}
    assert {c.pairs for _, _, c in commands} == {"retrieval"}
    assert commands[1][1] == tmp_path / "out/a/d2d-hardnet"
    commands.clear()
    features = ["--features", "d2d-hardnet", "d2d-hardnet:resize_max=3072", "--weights", "d2d-hardnet=w.pth"]
    assert eth.main([*arguments, *features]) == 0
    assert [(c.feature, c.weights, output.name) for _, output, c in commands[:2]] == [
        ("d2d-hardnet", "w.pth", "d2d-hardnet"),
        ("d2d-hardnet:resize_max=3072", "w.pth", "d2d-hardnet_resize_max=3072"),
    ]
    commands.clear()
    assert eth.main([*arguments, "--features", "sift", "--exhaustive-up-to", "4"]) == 0
    assert {c.pairs for _, _, c in commands} == {"exhaustive"}
    assert eth.main([*arguments, "--features", "sift", "--pairs", "sequential"]) == 0
    assert commands[-1][2].pairs == "sequential"


def test_one_failure_does_not_stop_the_others(fountain, tmp_path, monkeypatch, capsys):
    fake_sfm(monkeypatch, failing=["sift"])
    shutil.copytree(fountain / "images", tmp_path / "door/images")
    command = [
        "--dataset",
        str(tmp_path / "door"),
        "--output",
        str(tmp_path / "out"),
        "--features",
        "sift",
        "d2d-hardnet",
    ]
    assert eth.main(command) == 1
    assert [row["feature"] for row in rows(tmp_path / "out/eth.csv")] == ["d2d-hardnet"]
    assert "failed: door with sift: it broke" in capsys.readouterr().out


def test_sets_without_a_model_or_with_too_few_poses_keep_their_row(fountain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("posfeat_hloc.evaluation.eth.reconstruct", lambda *_: SfmResult(images=4))
    command = ["--dataset", str(fountain), "--output", str(tmp_path), "--features", "sift"]
    assert eth.main(command) == 1
    row = rows(tmp_path / "eth.csv")[0]
    assert (row["registered"], row["sparse points"]) == ("0", "")
    fake_sfm(monkeypatch)  # its model cannot be read
    assert eth.main(command) == 0
    assert rows(tmp_path / "eth.csv")[0]["registered"] == "4"
    assert "fountain-P11 with sift: no pose errors: nowhere" in capsys.readouterr().out


def test_wrong_folders_and_options_end_with_a_message(fountain, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "bad/images").mkdir(parents=True)
    with pytest.raises(SystemExit):
        eth.main(["--dataset", str(fountain), "--feature", "sift"])
    assert "--feature sift" in capsys.readouterr().err.splitlines()[-1]
    assert eth.main(["--dataset", str(tmp_path / "nowhere")]) == 1
    assert eth.main(["--dataset", str(tmp_path)]) == 1
    assert eth.main(["--dataset", str(fountain), "--weights", "sift=w.pth"]) == 1
    shutil.copytree(fountain / "images", tmp_path / "bad/images", dirs_exist_ok=True)
    (tmp_path / "bad/database.db").write_text("not SQLite" * 100)
    assert eth.main(["--dataset", str(tmp_path / "bad")]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4
    assert "no such folder; expected <set>/images/" in lines[0]
    assert "expected <set>/images/" in lines[1]
    assert "found bad, notes" in lines[1]
    assert "--weights 'sift=w.pth': sift is not among the features" in lines[2]
    assert "bad/database.db: is not a COLMAP database" in lines[3]


def test_dense_points_are_made_once_for_a_model(tmp_path, monkeypatch):
    """The order of COLMAP's stages; they themselves need CUDA."""
    calls = []

    class Fused:
        def num_points3D(self):
            return 1234

    monkeypatch.setattr(dense_stereo.pycolmap, "has_cuda", True)
    monkeypatch.setattr(dense_stereo.pycolmap, "undistort_images", lambda *a: calls.append("undistort"))
    monkeypatch.setattr(dense_stereo.pycolmap, "patch_match_stereo", lambda *a: calls.append("stereo"))
    monkeypatch.setattr(dense_stereo.pycolmap, "stereo_fusion", lambda *a, **k: calls.append("fuse") or Fused())
    arguments = (Path("model"), Path("images"), tmp_path / "dense")
    assert dense_stereo.dense_points(*arguments, "one") == 1234
    assert dense_stereo.dense_points(*arguments, "one") == 1234
    assert calls == ["undistort", "stereo", "fuse"]
    assert dense_stereo.dense_points(*arguments, "two") == 1234
    assert len(calls) == 6
    monkeypatch.setattr(dense_stereo.pycolmap, "has_cuda", False)
    with pytest.raises(MappingError, match="without CUDA"):
        dense_stereo.dense_points(*arguments, "two")
