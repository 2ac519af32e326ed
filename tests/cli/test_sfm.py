"""The command, end to end, on rendered scenes with known cameras."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.evaluation.poses import pose_errors
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.weights import BUNDLED
from posfeat_hloc.weights.loading import save_posfeat
from tests.networks.test_resunet import calibrated_posfeat
from tests.rendering import write_scene

REPOSITORY = Path(__file__).parents[2]


def run(images, output, *arguments, feature="sift"):
    """With few keypoints, because most of the time goes into mapping them."""
    command = ["--images", images, "--output", output, "--feature", feature, "--quiet", "--max-keypoints", 800]
    return sfm.main([*map(str, command), *map(str, arguments)])


def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def finished(scene, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    assert run(scene[0], output, "--threads", 1) == 0
    return output


def test_cameras_are_found_where_they_were(scene, finished):
    errors = pose_errors(read_model(finished / "sparse/0"), scene[1])
    assert len(errors.names) == 6
    assert errors.rotation.max() < 0.2
    assert errors.position.max() < 0.05  # the cameras are 4 units apart


def test_summary_agrees_with_the_model(finished):
    found = summary(finished)
    model = read_model(finished / "sparse/0")
    assert found["images"] == found["registered"] == model.num_reg_images() == 6
    assert found["model"]["points"] == model.num_points3D()
    assert found["verified_pairs"] == found["pairs"] == 15
    assert set(found["seconds"]) == {"extract", "match", "verify", "map"}
    assert found["model"]["reprojection_error"] < 0.3


def test_an_export_that_fails_costs_neither_the_summary_nor_the_others(scene, finished, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    (output / "summary.json").unlink()
    (output / "export").mkdir()
    (output / "export/points.ply").mkdir()  # so that the file cannot be written
    assert run(scene[0], output, "--threads", 1, "--export", "ply", "transforms") == 1
    found = summary(output)
    assert found["registered"] == 6
    assert "points.ply" in found["remarks"]["export ply"]
    assert found["remarks"]["export transforms"] == str(output / "export/transforms.json")
    assert "export ply          failed: " in capsys.readouterr().out


def test_running_again_keeps_everything(scene, finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in (finished / "sparse/0").iterdir()}
    assert run(scene[0], finished, "--threads", 1) == 0
    assert {p: p.stat().st_mtime_ns for p in (finished / "sparse/0").iterdir()} == before
    assert summary(finished)["kept_from_earlier_run"] == ["extract", "map", "match", "verify"]
    assert "extract kept, match kept, verify kept, map kept" in " ".join(capsys.readouterr().out.split())
    assert run(scene[0], finished, "--threads", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out) == summary(finished) | {"output": str(finished), "report": None}


def test_the_same_seed_and_one_thread_give_the_same_points(scene, finished, tmp_path):
    assert run(scene[0], tmp_path / "again", "--threads", 1) == 0
    models = [read_model(folder / "sparse/0") for folder in (finished, tmp_path / "again")]
    points = [np.array([m.points3D[i].xyz for i in sorted(m.points3D)]) for m in models]
    np.testing.assert_array_equal(points[0], points[1])


def test_a_replaced_photograph_is_not_reused(scene, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(scene[0], photos)
    assert run(photos, tmp_path / "out") == 0
    with FeatureStore(tmp_path / "out/features.h5") as store:
        before = {name: store.digest(name) for name in store.names()}
    Image.fromarray(np.full((300, 400), 90, np.uint8)).save(photos / "view_05.png")
    assert run(photos, tmp_path / "out") == 0
    with FeatureStore(tmp_path / "out/features.h5") as store:
        changed = {name for name in before if store.digest(name) != before[name]}
    assert changed == {"view_05.png"}
    found = summary(tmp_path / "out")
    assert found["registered"] == 5
    assert list(found["unregistered"]) == ["view_05.png"]
    assert found["unregistered"]["view_05.png"] == "blank image: grey values differ by 0.0 of 255; 0 keypoints"
    assert found["likely_causes"][0]["images"] == ["view_05.png"]
    assert "0 keypoints" in found["notes"]["view_05.png"]


def test_another_configuration_in_the_same_output_is_refused(scene, finished, capsys):
    assert run(scene[0], finished, "--max-keypoints", 100) == 1
    error = capsys.readouterr().err
    assert "features.h5" in error
    assert "max_keypoints: 800 there, 100 now" in error


def test_strange_files_are_skipped_and_counted(scene, tmp_path):
    photos = tmp_path / "Fotos für später"
    (photos / "a").mkdir(parents=True)
    (photos / "a-b").mkdir()
    views = sorted(scene[0].iterdir())
    for view, name in zip(views, ["a/b-c.png", "a-b/c.png", "ü x.png", "3.png", "4.png", "5.png"], strict=True):
        shutil.copy(view, photos / name)
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no picture")
    (photos / "cut.png").write_bytes(views[0].read_bytes()[:5000])
    Image.new("L", (1, 1)).save(photos / "dot.png")
    Image.new("RGB", (20000, 40), (90, 20, 30)).save(photos / "wide.png")
    (photos / "notes.txt").write_text("not even tried")
    shutil.copy(views[0], os.fsdecode(os.fsencode(photos) + b"/stra\xdfe.png"))  # Latin-1, from an old archive
    assert run(photos, tmp_path / "out") == 0
    found = summary(tmp_path / "out")
    assert found["images"] == 12
    assert set(found["skipped"]) == {"empty.jpg", "text.jpg", "cut.png", "stra\\udcdfe.png"}
    assert found["registered"] == 6
    assert set(found["unregistered"]) == {"dot.png", "wide.png"}


def test_a_rotated_photograph_stays_in_stored_pixels(scene, tmp_path):
    """One view is stored turned by 90 degrees with the EXIF tag that turns it back."""
    photos = tmp_path / "photos"
    shutil.copytree(scene[0], photos)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a clockwise quarter turn
    with Image.open(photos / "view_02.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(photos / "view_02.png", exif=exif)
    assert run(photos, tmp_path / "out") == 0
    model = read_model(tmp_path / "out/sparse/0")
    image = next(i for i in model.images.values() if i.name == "view_02.png")
    assert (image.camera.width, image.camera.height) == (300, 400)
    upright = next(i for i in model.images.values() if i.name == "view_01.png")
    relative = image.cam_from_world().rotation.matrix() @ upright.cam_from_world().rotation.matrix().T
    angle = np.degrees(np.arctan2(relative[1, 0], relative[0, 0]))
    assert abs(abs(angle) - 90) < 5  # the camera itself was turned


def test_pairs_and_mappers_can_be_chosen(scene, tmp_path):
    names = sorted(p.name for p in scene[0].iterdir())
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{a} {b}\n" for a, b in itertools.pairwise(names)))
    assert run(scene[0], tmp_path / "chain", "--pairs", pairs) == 0
    assert summary(tmp_path / "chain")["pairs"] == 5
    assert run(scene[0], tmp_path / "global", "--pairs", "sequential", "--overlap", 3, "--mapper", "global") == 0
    assert summary(tmp_path / "global")["registered"] == 6


def test_known_intrinsics_are_kept(scene, tmp_path):
    arguments = [
        "--camera",
        "single",
        "--camera-model",
        "SIMPLE_PINHOLE",
        "--camera-params",
        "420,200,150",
        "--fix-camera",
    ]
    assert run(scene[0], tmp_path, *arguments) == 0
    (camera,) = read_model(tmp_path / "sparse/0").cameras.values()
    assert camera.params.tolist() == [420, 200, 150]
    assert pose_errors(read_model(tmp_path / "sparse/0"), scene[1]).rotation.max() < 0.1


@pytest.mark.skipif("hardnet" not in BUNDLED, reason="no HardNet weights are shipped")
def test_d2d_gives_longer_tracks_than_sift(scene, finished, tmp_path):
    assert run(scene[0], tmp_path, "--max-keypoints", 2000, feature="d2d-hardnet") == 0
    assert summary(tmp_path)["registered"] == 6
    assert pose_errors(read_model(tmp_path / "sparse/0"), scene[1]).rotation.max() < 0.5


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "no images in this folder"),
        (lambda folder: Image.new("L", (64, 64)).save(folder / "one.png"), "at least two"),
        (lambda folder: [(folder / n).touch() for n in ("a.jpg", "b.jpg")], "fewer than two images can be read"),
    ],
)
def test_folders_without_two_pictures_end_with_a_message(tmp_path, capsys, prepare, message):
    photos = tmp_path / "photos"
    photos.mkdir()
    prepare(photos)
    assert run(photos, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_pictures_without_overlap_give_no_model_and_exit_code_1(tmp_path, capsys):
    photos = tmp_path / "photos"
    write_scene(photos / "one", 1, seed=1)
    write_scene(photos / "two", 1, seed=2)
    assert run(photos, tmp_path / "out") == 1
    assert summary(tmp_path / "out")["model"] is None
    assert "no model" in capsys.readouterr().out


def test_wrong_paths_and_weights_end_with_a_message(scene, tmp_path, capsys):
    assert run(scene[0], tmp_path / "o1", "--pairs", tmp_path / "none.txt") == 2  # of the command line itself
    assert "none.txt" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert run(scene[0], tmp_path / "o2", "--weights", tmp_path / "w.pth", feature="d2d-hardnet") == 1
    assert run(scene[0], tmp_path / "o3", "--weights", "x") == 1
    (tmp_path / "o4").mkdir()
    (tmp_path / "o4/features.h5").write_text("not HDF5 at all")
    assert run(scene[0], tmp_path / "o4") == 1
    (tmp_path / "file").touch()
    assert run(scene[0], tmp_path / "file/out") == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 5
    for part in ("nowhere", "w.pth", "--weights: sift has no weights", "o4/features.h5", "file"):
        assert part in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_output_ends_with_a_message(scene, tmp_path, capsys):
    (tmp_path / "out").mkdir(mode=0o500)
    assert run(scene[0], tmp_path / "out") == 1
    assert str(tmp_path / "out") in capsys.readouterr().err


@pytest.mark.slow  # tests/crash stops runs in forked processes, which costs less
def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(scene, finished, tmp_path):
    command = [sys.executable, "-m", "pipelines.sfm", "--images", str(scene[0]), "--output", str(tmp_path / "out")]
    command += ["--feature", "sift", "--quiet", "--max-keypoints", "800", "--threads", "1"]
    for seconds_after_first_file in (0.05, 0.6, 1.2):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (tmp_path / "out/features.h5").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds_after_first_file)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
    models = [read_model(folder / "sparse/0") for folder in (finished, tmp_path / "out")]
    points = [np.array([m.points3D[i].xyz for i in sorted(m.points3D)]) for m in models]
    np.testing.assert_array_equal(points[0], points[1])


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as ended:
        sfm.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--images", "--output", "--feature", "--matcher", "--weights", "--max-size", "--max-keypoints",
                   "--pairs", "--overlap", "--camera", "--camera-model", "--camera-params", "--mapper", "--device",
                   "--seed", "--threads", "--quiet"):  # fmt: skip
        assert option in text


def test_posfeat_runs_with_weights_of_the_user(tmp_path, capsys):
    """Random weights still match an image with its copy, so the command gets as far as two-view geometry."""
    images = tmp_path / "photos"
    write_scene(images, 1)
    first = Image.open(images / "view_00.png").convert("RGB").crop((100, 60, 260, 180))
    (images / "view_00.png").unlink()
    for i in range(3):
        first.crop((i * 8, 0, 128 + i * 8, 112)).save(images / f"{i}.png")
    assert run(images, tmp_path / "none", "--weights", tmp_path / "gone.safetensors", feature="posfeat") == 1
    assert "neither a file" in capsys.readouterr().err
    save_posfeat(tmp_path / "random.safetensors", calibrated_posfeat(), "consistent")
    weights = ("--weights", tmp_path / "random.safetensors")
    run(images, tmp_path / "out", *weights, feature="posfeat")  # no model: the camera only turned
    with FeatureStore(tmp_path / "out/features.h5") as features:
        assert all(len(features.read(f"{i}.png")) > 50 for i in range(3))
    assert json.loads((tmp_path / "out/summary.json").read_text())["verified_pairs"] == 3


def test_pairs_from_retrieval(scene, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(scene[0], output, "--pairs", "retrieval", "--neighbors", 2) == 0
    found = summary(output)
    assert found["registered"] == 6
    lines = (output / "pairs.txt").read_text().splitlines()
    assert found["pairs"] == len(lines) == len({frozenset(line.split()) for line in lines})
    assert 6 <= len(lines) <= 12  # the others of 15 are not matched
    near = [abs(int(a[5:7]) - int(b[5:7])) for a, b in map(str.split, lines)]
    assert np.mean(near) < 2  # views along an arc; pairs at random are 2.3 apart
    assert set(found["seconds"]) == {"extract", "retrieve", "match", "verify", "map"}
    assert run(scene[0], output, "--pairs", "retrieval", "--neighbors", 2) == 0
    assert summary(output)["kept_from_earlier_run"] == ["extract", "map", "match", "retrieve", "verify"]
