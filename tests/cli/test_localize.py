"""The command and the localizer, end to end, on a rendered scene: a map of five views, two others as queries."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipelines import localize, sfm
from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.localization.localizer import Localizer
from posfeat_hloc.localization.results import read_log, read_results, write_results
from posfeat_hloc.retrieval import describe_images
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore
from tests.localization.scenes import pose_error
from tests.rendering import FOCAL, HEIGHT, WIDTH, write_scene

REPOSITORY = Path(__file__).parents[2]
INTRINSICS = f"SIMPLE_PINHOLE {WIDTH} {HEIGHT} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A map whose frame is the true one, queries with the names of map images, their list and their poses."""
    folder = tmp_path_factory.mktemp("world")
    cameras = write_scene(folder / "all", 7)
    (folder / "photos").mkdir()
    (folder / "queries").mkdir()
    views = sorted(cameras)
    poses, truth = {}, {}
    for i, view in enumerate(views):
        if i in (2, 4):
            name = views[3] if i == 2 else views[5]  # names that other images have in the map
            shutil.move(folder / "all" / view, folder / "queries" / name)
            truth[name] = cameras[view]
        else:
            shutil.move(folder / "all" / view, folder / "photos" / view)
            poses[view] = cameras[view]
    params = f"{FOCAL},{WIDTH / 2},{HEIGHT / 2}"
    arguments = ["--images", str(folder / "photos"), "--output", str(folder / "map"), "--feature", "sift", "--quiet"]
    arguments += [
        "--max-keypoints",
        "1000",
        "--camera",
        "single",
        "--camera-model",
        "SIMPLE_PINHOLE",
        "--camera-params",
        params,
    ]
    assert sfm.main(arguments) == 0
    model = read_model(folder / "map/sparse/0")
    images = sorted(model.images.values(), key=lambda image: image.name)
    assert len(images) == 5
    similarity = pycolmap.estimate_sim3d(
        np.array([image.projection_center() for image in images]), np.array([poses[i.name].centre for i in images])
    )
    model.transform(similarity)
    model.write(folder / "map/sparse/0")
    (folder / "queries.txt").write_text("".join(f"{name} {INTRINSICS}\n" for name in truth))
    write_results(
        folder / "truth.txt",
        {n: pycolmap.Rigid3d(pycolmap.Rotation3d(v.rotation), v.translation) for n, v in truth.items()},
    )
    return folder


def run(world, output, *arguments, queries="queries.txt"):
    options = ["--map", world / "map", "--queries", world / queries, "--output", output, "--device", "cpu", "--quiet"]
    if str(queries).endswith(".txt"):
        options += ["--images", world / "queries"]
    return localize.main([str(part) for part in (*options, *arguments)])


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    assert run(world, output, "--ground-truth", world / "truth.txt", "--thresholds", "0.02,0.3 0.5,5") == 0
    return output


def summary(output):
    return json.loads((output / "summary.json").read_text())


def test_queries_are_found_where_they_were(world, finished):
    found, truth = read_results(finished / "poses.txt"), read_results(world / "truth.txt")
    assert list(found) == list(truth)
    for name, pose in found.items():
        distance, angle = pose_error(pose, truth[name])
        assert distance < 0.03  # neighbouring cameras are 0.7 units apart
        assert angle < 0.3
    told = summary(finished)
    assert told["localized"] == told["queries"] == 2
    assert told["errors"]["median_position"] < 0.03
    assert told["errors"]["recall"][1]["recall"] == 1.0
    assert told["pairs"] == 10
    assert told["feature"] == "sift"


def test_running_again_changes_nothing_and_the_map_is_untouched(world, finished, capsys):
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (world / "map").rglob("*") if path.is_file()
    }
    poses, log = (finished / "poses.txt").read_bytes(), (finished / "queries.jsonl").read_bytes()
    assert run(world, finished, "--threads", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out) == summary(finished) | {"output": str(finished), "report": None}
    assert (finished / "poses.txt").read_bytes() == poses
    assert (finished / "queries.jsonl").read_bytes() == log  # not even the times: nothing was estimated again
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (world / "map").rglob("*") if path.is_file()
    }
    assert after == before


def test_a_folder_of_photographs_needs_no_intrinsics(world, tmp_path, capsys):
    assert run(world, tmp_path, "--ground-truth", world / "truth.txt", queries="queries") == 0
    assert "2 of 2 queries localized with sift" in capsys.readouterr().out
    for record in read_log(tmp_path / "queries.jsonl").values():
        assert abs(record.focal_length - FOCAL) < 0.03 * FOCAL
    assert summary(tmp_path)["errors"]["median_position"] < 0.15


def test_lists_without_intrinsics_patterns_and_single_photographs(world, tmp_path, capsys):
    names = sorted(path.name for path in (world / "queries").iterdir())
    (tmp_path / "a_list.txt").write_text(f"{names[0]} {INTRINSICS}\n")
    (tmp_path / "b_list.txt").write_text(f"{names[1]}\n")
    lists = tmp_path / "[ab]_list.txt"
    assert run(world, tmp_path / "out", "--queries", lists, "--images", world / "queries") == 0
    records = read_log(tmp_path / "out/queries.jsonl")
    assert {name for name, record in records.items() if record.localized} == set(names)
    assert records[names[0]].focal_length == FOCAL  # known, and kept
    assert 0 < abs(records[names[1]].focal_length - FOCAL) < 0.03 * FOCAL
    assert run(world, tmp_path / "one", queries=f"queries/{names[0]}") == 0
    assert "1 of 1 queries localized" in capsys.readouterr().out


def test_photographs_on_their_side_are_told(world, tmp_path, capsys, monkeypatch):
    shutil.copytree(world / "queries", tmp_path / "side")
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(tmp_path / "side/blank.png")
    asked = []

    def retry(inputs, found, options, output, log):
        asked.append(list(found))
        pose = pycolmap.Rigid3d()
        return {n: replace(result, cam_from_world=pose, reason="", rotation=90) for n, result in found.items()}

    monkeypatch.setattr("posfeat_hloc.localization.rotation_retry.retry_turned", retry)
    assert run(world, tmp_path / "out", queries=tmp_path / "side") == 0
    assert asked == [["blank.png"]]
    said = " ".join(capsys.readouterr().out.split())
    assert "blank.png is localized after a rotation by 90 degrees" in said
    assert "add --try-rotations" in said
    assert summary(tmp_path / "out")["found_when_rotated"] == ["blank.png", 90]


def test_pairs_can_be_given_and_unreadable_queries_are_listed(world, tmp_path, capsys):
    folder = tmp_path / "more"
    shutil.copytree(world / "queries", folder)
    names = sorted(p.name for p in folder.iterdir())
    (folder / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(folder / "blank.png")
    (tmp_path / "list.txt").write_text("".join(f"{n} {INTRINSICS}\n" for n in [*names, "broken.png", "blank.png"]))
    pairs = "".join(f"{names[0]} {image}\n" for image in ("view_01.png", "view_03.png"))
    (tmp_path / "pairs.txt").write_text(pairs + "blank.png view_00.png\nbroken.png view_00.png\n")
    arguments = ["--pairs", tmp_path / "pairs.txt", "--images", folder, "--queries", tmp_path / "list.txt"]
    assert run(world, tmp_path / "out", *arguments, "--fallback", "closest") == 0
    told = summary(tmp_path / "out")
    assert told["localized"] == 1
    assert told["pairs"] == 3
    assert set(told["not_localized"]) == {names[1], "broken.png", "blank.png"}
    assert told["not_localized"][names[1]] == "no pair with an image of the map"
    assert "broken.png" in told["not_localized"]["broken.png"]
    assert told["fallback"]["blank.png"] == "view_00.png"
    poses = read_results(tmp_path / "out/poses.txt")
    assert names[1] not in poses
    expected = next(i for i in read_model(world / "map/sparse/0").images.values() if i.name == "view_00.png")
    np.testing.assert_allclose(poses["blank.png"].matrix(), expected.cam_from_world().matrix(), atol=1e-12)
    assert "not localized (3)" in capsys.readouterr().out


def test_a_localizer_gives_what_the_command_gives(world, finished, tmp_path):
    map_folder = world / "map"
    before = {path: path.read_bytes() for path in map_folder.rglob("*") if path.is_file()}
    for path in [map_folder, *map_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with Localizer(map_folder, device="cpu") as localizer:
            for name, expected in read_log(finished / "queries.jsonl").items():
                with Image.open(world / "queries" / name) as file:
                    pixels = np.asarray(file.convert("RGB"))
                camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", FOCAL, WIDTH, HEIGHT)
                found = localizer.localize(pixels, camera, name=name)
                assert set(found.seconds) == {"extract", "retrieve", "match", "pose"}
                assert found.result.matches == expected.matches
                np.testing.assert_array_equal(found.result.cam_from_world.matrix(), expected.cam_from_world.matrix())
            guessed = localizer.localize(pixels, focal_length=1.05 * FOCAL)
            assert abs(guessed.result.focal_length - FOCAL) < 0.03 * FOCAL
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
            file = localizer.localize(tmp_path / "turned.png", focal_length=FOCAL)
            assert file.result.name == "turned.png"
            assert file.result.matches == expected.matches
            distance, angle = pose_error(file.result.cam_from_world, expected.cam_from_world)
            assert distance < 0.05
            assert abs(angle - 90) < 1  # the pose of the pixels as stored
            with pytest.raises(ImageError, match="pixels are expected"):
                localizer.localize([1, 2])
            blank = localizer.localize(np.zeros((60, 80, 3), np.uint8))
            assert blank.result.cam_from_world is None
            assert blank.result.reason
            with pytest.raises(ImageError, match="uint8"):
                localizer.localize(pixels.astype(np.float32))
            with pytest.raises(ConfigurationError, match="the image has 80x60"):
                localizer.localize(np.zeros((60, 80), np.uint8), camera)
    finally:
        for path in [map_folder, *map_folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert {path: path.read_bytes() for path in map_folder.rglob("*") if path.is_file()} == before


def test_retrieval_leaves_most_of_the_map_out(world, tmp_path, capsys):
    before = sorted((world / "map").iterdir())
    assert run(world, tmp_path, "--neighbors", 2, "--ground-truth", world / "truth.txt") == 0
    told = summary(tmp_path)
    assert told["pairs"] == 4
    assert told["errors"]["median_position"] < 0.03
    assert sorted((world / "map").iterdir()) == before
    expected = {"view_03.png": {"view_01.png", "view_03.png"}, "view_05.png": {"view_03.png", "view_05.png"}}
    for name, record in read_log(tmp_path / "queries.jsonl").items():  # the neighbours of view 2 and of view 4
        assert set(record.images) == expected[name]
    assert run(world, tmp_path / "far", "--neighbors", 2, "--map-images", tmp_path / "none") == 0
    assert "matched with all" in (said := capsys.readouterr().out)
    assert "name their folder by --map-images" in said
    assert summary(tmp_path / "far")["pairs"] == 10
    assert run(world, tmp_path, "--neighbors", 2, "--pairs", tmp_path / "pairs.txt") == 1
    assert "exclude each other" in capsys.readouterr().err


def test_a_localizer_retrieves_where_the_map_is_described(world, tmp_path):
    shutil.copytree(world / "map", tmp_path / "map")
    conf = confs.retrieval["vlad-hardnet"]
    describe_images(conf, world / "photos", tmp_path / "map" / f"{conf['output']}.h5", device="cpu", progress=False)
    pixels = np.asarray(Image.open(world / "queries/view_03.png"))
    with Localizer(tmp_path / "map", device="cpu", neighbors=2) as localizer:
        found = localizer.localize(pixels, focal_length=FOCAL)
    assert set(found.result.images) == {"view_01.png", "view_03.png"}
    assert set(found.seconds) == {"extract", "retrieve", "match", "pose"}
    assert found.result.localized


@pytest.mark.slow
def test_a_killed_run_goes_on(world, finished, tmp_path):
    command = [sys.executable, "-m", "pipelines.localize", "--map", world / "map", "--queries", world / "queries.txt",
               "--images", world / "queries", "--output", tmp_path / "out", "--quiet", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/matches.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(world, tmp_path / "out") == 0
    assert (tmp_path / "out/poses.txt").read_bytes() == (finished / "poses.txt").read_bytes()


def test_what_is_wrong_ends_with_one_line(world, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("view_03.png\n")
    (tmp_path / "pairs.txt").write_text("view_03.png nowhere.png\n")
    (tmp_path / "twins/a").mkdir(parents=True)
    (tmp_path / "twins/b").mkdir()
    for side in "ab":
        shutil.copy(world / "queries/view_03.png", tmp_path / "twins" / side / "x.png")
    other = tmp_path / "other.h5"
    shutil.copy(world / "map/features.h5", other)
    with FeatureStore(world / "map/features.h5") as store, FeatureStore(other, store.configuration) as changed:
        some = store.read("view_00.png")
        keep = slice(0, len(some) - 3)
        changed.write(
            "view_00.png", type(some)(some.keypoints[keep], some.scores[keep], some.descriptors[keep]), (1, 1)
        )
        changed.commit()
    for arguments, message in (
        (["--map", tmp_path], "no COLMAP model here"),
        (["--map", world / "map/sparse/0"], "posfeat-hloc triangulate --model"),
        (["--queries", tmp_path / "*.none"], "no such file or folder"),
        (["--queries", world / "queries", tmp_path / "short.txt"], "one folder, or several files"),
        (["--feature", "d2d-hardnet"], "the map was made with sift, not with d2d-hardnet"),
        (["--weights", "hardnet"], "sift has no weights"),
        (["--map-features", other], "keypoints in the model and"),
        (["--queries", tmp_path / "none.txt"], "no such file or folder"),
        (["--images", tmp_path], "holds none of the 2 images"),
        (["--pairs", tmp_path / "pairs.txt"], "line 1: does not name two images"),
        (["--ground-truth", world / "queries.txt"], "not of the form"),
        (["--ground-truth", world / "queries"], "no COLMAP model"),
        (["--max-error", "-1"], "max_error"),
    ):
        assert run(world, tmp_path / "out", *arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
    assert localize.main(["--map", str(world / "map"), "--queries", str(tmp_path / "twins"), "--quiet"]) == 1
    assert "would both be called 'x.png'" in capsys.readouterr().err
