"""The benchmark's command, end to end, on a rendered data set whose queries have known poses."""

import json
import re
import shutil

import numpy as np
import pycolmap
import pytest

from pipelines import aachen, miniature_aachen
from posfeat_hloc.aachen import protocols
from posfeat_hloc.localization.results import read_results
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.weights import BUNDLED

ARGUMENTS = ["--feature", "sift", "--max-keypoints", "1000", "--neighbors", "4", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("aachen") / "data"
    options = ["--images", "9", "--queries", "2", "--size", "280x210", "--quiet"]
    assert miniature_aachen.main(["--output", str(root), *options]) == 0
    return root


def run(data, output, *arguments, feature=()):
    base = [*ARGUMENTS, *feature, "--dataset", data, "--output", output]
    return aachen.main([str(argument) for argument in (*base, *arguments)])


def truth(data):
    return ["--ground-truth", data / "ground_truth.txt"]


def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of each protocol, on either version."""
    outputs = {}
    for protocol, version in (("hloc", "v1"), ("challenge", "v1.1")):
        outputs[protocol] = tmp_path_factory.mktemp(protocol) / "out"
        assert run(data, outputs[protocol], "--protocol", protocol, "--version", version, *truth(data)) == 0
    return outputs


@pytest.mark.parametrize("protocol", ["hloc", "challenge"])
def test_queries_are_found_where_they_were(data, finished, protocol):
    name = {"hloc": "Aachen_eval_[sift_hloc].txt", "challenge": "Aachen_v1_1_eval_[sift_challenge].txt"}[protocol]
    lines = (finished[protocol] / "seed-0" / name).read_text().splitlines()
    assert all(re.fullmatch(r"IMG_\w+\.jpg( -?[\d.e-]+){7}", line) for line in lines)  # as the site takes them
    poses = read_results(finished[protocol] / "seed-0" / name)
    true = read_results(data / "ground_truth.txt")
    nights = {name.rpartition("/")[2] for name in true if "/night/" in name}
    expected = nights if protocol == "challenge" else {name.rpartition("/")[2] for name in true}
    assert set(poses) == expected
    for query, pose in true.items():
        short = query.rpartition("/")[2]
        if short in poses:
            distance = np.linalg.norm(poses[short].inverse().translation - pose.inverse().translation)
            assert distance < 0.15  # metres, of 10 m to the houses
            assert np.degrees((poses[short].rotation * pose.rotation.inverse()).angle()) < 0.5


@pytest.mark.parametrize("protocol", ["hloc", "challenge"])
def test_the_map_keeps_the_poses_of_the_reference(data, finished, protocol):
    reference = pycolmap.Reconstruction(data / "3D-models/aachen_v_1_1")
    model = pycolmap.Reconstruction(finished[protocol] / "seed-0/sfm")
    assert model.num_points3D() > 150
    assert model.compute_mean_reprojection_error() < 1
    poses = {image.name: image.cam_from_world().matrix() for image in reference.images.values()}
    for image in model.images.values():
        np.testing.assert_allclose(image.cam_from_world().matrix(), poses[image.name], atol=1e-9)


def test_the_summary_says_what_happened(finished):
    found = summary(finished["hloc"])
    assert found["dataset"]["version"] == "v1"
    assert found["dataset"]["database_images"] == 9
    assert found["query_pairs"] == 4 * 4
    assert found["trials"][0]["localized"] == 4
    assert found["recall"]["day"][0] == found["recall"]["night"][2] == {"mean": 1.0, "deviation": 0.0}
    assert set(found["seconds"]) == {"reference", "extract", "pairs", "match", "triangulate", "localize"}
    position, angle = found["trials"][0]["median"]["day"]
    assert 0 < position < 0.25
    assert 0 < angle < 2
    challenge = summary(finished["challenge"])
    assert challenge["trials"][0]["localized"] == challenge["dataset"]["queries"] == 2
    assert set(challenge["recall"]) == {"night"}


@pytest.mark.parametrize("protocol", ["hloc", "challenge"])
def test_running_again_keeps_everything(data, finished, protocol, capsys):
    version = {"hloc": "v1", "challenge": "v1.1"}[protocol]
    output = finished[protocol]

    def times():
        paths = [path for path in output.rglob("*") if path.is_file() and "logs" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in paths if path.suffix in (".bin", ".h5", ".db")}

    before, results = times(), sorted(output.glob("seed-0/Aachen*.txt"))[0].read_text()
    assert run(data, output, "--protocol", protocol, "--version", version, *truth(data)) == 0
    assert times() == before
    assert sorted(output.glob("seed-0/Aachen*.txt"))[0].read_text() == results
    kept = set(summary(output)["kept_from_earlier_run"])
    assert kept >= {"extract", "match", "triangulate"}
    assert "100.0" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["triangulate", "register_queries"])
def test_an_interrupted_run_ends_like_an_undisturbed_one(data, finished, tmp_path, monkeypatch, capsys, stage):
    output = tmp_path / "out"
    shutil.copytree(finished["challenge"], output)
    (results,) = output.glob("seed-0/Aachen*.txt")
    expected = results.read_text()
    shutil.rmtree(output / "seed-0")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(protocols, stage, interrupted)
        assert run(data, output, "--protocol", "challenge", "--version", "v1.1") == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not results.exists()
    assert run(data, output, "--protocol", "challenge", "--version", "v1.1") == 0
    assert results.read_text() == expected


def test_the_other_combinations_of_protocol_and_version(data, finished, tmp_path, capsys):
    """From features that are there already; pairs of the queries from a file, with two seeds."""
    shutil.copy(finished["hloc"] / "features.h5", tmp_path)
    pairs = finished["hloc"] / "pairs-query-top4.txt"
    assert run(data, tmp_path, "--version", "v1.1", "--pairs", pairs, "--repeat", 2, "--seed", 3, *truth(data)) == 0
    found = summary(tmp_path)
    assert [trial["seed"] for trial in found["trials"]] == [3, 4]
    assert all((tmp_path / f"seed-{seed}/Aachen_v1_1_eval_[sift_hloc].txt").exists() for seed in (3, 4))
    assert found["recall"]["day"][0]["mean"] == 1
    assert "±" in capsys.readouterr().out
    assert not list(tmp_path.glob("global*"))
    assert run(data, tmp_path, "--version", "v1", "--protocol", "challenge", "--seed", 9, *truth(data)) == 0
    assert summary(tmp_path)["recall"]["night"][0]["mean"] == 1


@pytest.mark.skipif("hardnet" not in BUNDLED, reason="no HardNet weights are shipped")
def test_learned_features_localize_as_well(data, tmp_path):
    feature = ["--feature", "d2d-hardnet-subpixel", "--max-keypoints", "500"]
    assert run(data, tmp_path, "--protocol", "challenge", *truth(data), feature=feature) == 0
    assert summary(tmp_path)["recall"]["night"][1]["mean"] == 1


def test_a_dry_run_writes_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    for protocol in ("hloc", "challenge"):
        arguments = [*ARGUMENTS, "--dataset", data, "--protocol", protocol, "--dry-run"]
        assert aachen.main([str(argument) for argument in arguments]) == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert not list(tmp_path.iterdir())
    text = capsys.readouterr().out
    assert "9 database images, 4 queries" in text
    assert re.search(r"match +88 pairs", text)  # 9 with 8 others, 4 queries with 4 each
    assert re.search(r"extract +11 images", text)  # the challenge has night queries only
    assert text.count("tried here") == 4


def test_queries_that_fail_get_the_pose_of_their_closest_image_only_when_asked(data, finished, tmp_path):
    output = shutil.copytree(finished["hloc"], tmp_path / "out")
    strict = ["--version", "v1", "--min-inliers", 100_000]
    name = "Aachen_eval_[sift_hloc].txt"
    assert run(data, output, *strict) == 1
    assert (output / "seed-0" / name).read_text() == ""
    assert run(data, output, *strict, "--fallback", "closest") == 1
    model = pycolmap.Reconstruction(output / "seed-0" / "sfm")
    known = [image.cam_from_world().translation for image in model.images.values()]
    poses = read_results(output / "seed-0" / name)
    assert len(poses) == summary(output)["dataset"]["queries"]
    assert all(min(np.linalg.norm(pose.translation - t) for t in known) < 1e-9 for pose in poses.values())
    assert summary(output)["trials"][0]["localized"] == 0


def test_an_incomplete_data_set_is_one_message_and_no_output(data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "queries/night_time_queries_with_intrinsics.txt").unlink()
    (root / "3D-models/aachen_v_1_1/images.bin").unlink()
    (root / "images_upright/db/4.jpg").unlink()
    assert run(root, tmp_path / "out", "--version", "v1.1") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    for part in ("night_time_queries_with_intrinsics", "aachen_v_1_1/images.bin"):
        assert part in error
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_listed_and_the_rest_goes_on(data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    night = sorted((root / "images_upright/query/night").rglob("*.jpg"))[0]
    night.write_bytes(b"no picture")
    (root / "images_upright/db/2.jpg").write_bytes(b"")
    assert run(root, tmp_path / "out", "--protocol", "challenge", *truth(data)) == 0
    found = summary(tmp_path / "out")
    assert set(found["skipped"]) == {"db/2.jpg", night.relative_to(root / "images_upright").as_posix()}
    assert found["trials"][0]["localized"] == 1
    assert list(found["trials"][0]["failed"]) == [night.relative_to(root / "images_upright").as_posix()]
    assert "pairs left out" in capsys.readouterr().out
    assert found["recall"]["night"][0]["mean"] == 0.5


def test_wrong_arguments_are_one_line(data, tmp_path, capsys):
    (tmp_path / "truth.txt").write_text("other.jpg 1 0 0 0 0 0 0\n")
    assert run(data, tmp_path / "o", "--ground-truth", tmp_path / "truth.txt") == 1
    assert run(data, tmp_path / "o", "--ground-truth", tmp_path / "none.txt") == 1
    assert run(data, tmp_path / "o", "--protocol", "challenge", "--pairs", "x.txt") == 1
    assert run(tmp_path / "nowhere", tmp_path / "o") == 1
    assert run(data, tmp_path / "o", "--weights", "x") == 1
    assert run(data, tmp_path / "o", "--protocol", "challenge", "--fallback", "closest") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 6
    parts = ("the pose of none of the 4 queries", "none.txt", "--pairs", "nowhere: no such folder", "--weights: sift",
             "--fallback is for --protocol hloc")  # fmt: skip
    assert all(part in line for part, line in zip(parts, lines, strict=True))


def test_real_images_can_be_held_out(data, tmp_path, capsys):
    model = ["--from-model", str(data / "3D-models/aachen_v_1_1"), str(data / "images_upright")]
    assert miniature_aachen.main(["--output", str(tmp_path / "held"), *model, "--every", "5"]) == 0
    text = capsys.readouterr().out
    thresholds = re.search(r"--thresholds '(\S+,1 \S+,2 \S+,5)'", text)[1]
    names = [
        path.relative_to(tmp_path / "held/images_upright").as_posix() for path in (tmp_path / "held").rglob("*.jpg")
    ]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{a} {b}\n" for a in names for b in names if a.startswith("q") and b.startswith("db")))
    arguments = [*truth(tmp_path / "held"), "--thresholds", thresholds, "--pairs", pairs]
    assert run(tmp_path / "held", tmp_path / "out", *arguments) == 0
    found = summary(tmp_path / "out")
    assert found["dataset"] | {"folder": ""} == {
        "folder": "", "version": "v1.1", "protocol": "hloc", "database_images": 7, "queries": 4
    }  # fmt: skip
    assert found["recall"]["day"][2]["mean"] == 1
    with FeatureStore(tmp_path / "out/features.h5") as store:
        assert len(store.names()) == 11
