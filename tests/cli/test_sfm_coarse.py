"""The command, coarse to fine, on a rendered scene."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import sfm
from posfeat_hloc.evaluation.poses import pose_errors
from posfeat_hloc.sfm.database import verified_pairs
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import read_pairs


def run(images: Path, output: Path, *arguments: object) -> int:
    command = ["--images", str(images), "--output", str(output), "--feature", "sift", "--quiet", "--threads", "1"]
    return sfm.main([*command, *map(str, arguments)])


def summary(output: Path) -> dict:
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def finished(scene, tmp_path_factory):
    outputs = [tmp_path_factory.mktemp("outputs") / name for name in ("coarse", "whole")]
    assert run(scene[0], outputs[0], "--coarse", 250) == 0
    assert run(scene[0], outputs[1], "--coarse", 0) == 0
    return outputs


def test_points_and_poses_are_no_worse_than_with_all_keypoints_at_once(scene, finished):
    models = [read_model(output / "sparse/0") for output in finished]
    errors = [pose_errors(model, scene[1]) for model in models]
    assert [len(e.names) for e in errors] == [6, 6]
    assert errors[0].rotation.max() < 0.2
    assert errors[0].position.max() < max(0.05, 1.5 * errors[1].position.max())
    assert models[0].num_points3D() > 0.95 * models[1].num_points3D()
    assert models[0].compute_mean_reprojection_error() < 0.4
    assert summary(finished[0])["remarks"]["coarse"] == "6 images placed by 250 keypoints each, 15 of 15 pairs verified"
    assert not (finished[1] / "coarse").exists()


def test_what_is_left_belongs_together(finished):
    output = finished[0]
    with FeatureStore(output / "features.h5") as features, MatchStore(output / "matches.h5") as matches:
        names = features.names()
        pairs = read_pairs(output / "pairs.txt", names)
        counts = {name: len(features.keypoints(name)) for name in names}
        assert min(counts.values()) >= 500
        for a, b in pairs:
            assert matches.read(a, b).pairs()[:, 0].max() > 250
    assert {frozenset(pair) for pair in verified_pairs(output / "database.db")} <= {frozenset(p) for p in pairs}
    model = read_model(output / "sparse/0")
    assert {image.name: image.num_points2D() for image in model.images.values()} == counts


def test_running_again_keeps_everything_and_the_switch_changes_sides(scene, finished, tmp_path):
    output = tmp_path / "again"
    shutil.copytree(finished[0], output)
    before = (output / "sparse/0/points3D.bin").read_bytes()
    assert run(scene[0], output, "--coarse", 250) == 0
    assert (output / "sparse/0/points3D.bin").read_bytes() == before
    kept = {"extract", "match", "verify", "map", "match finely", "verify finely", "map finely"}
    assert set(summary(output)["kept_from_earlier_run"]) == kept
    assert run(scene[0], output, "--coarse", 0) == 0
    points = [read_model(folder / "sparse/0").num_points3D() for folder in (output, finished[1])]
    assert points[0] == points[1]


def test_an_image_that_the_coarse_stage_leaves_out_is_tried_with_all_keypoints(scene, finished, tmp_path):
    """Remove one image from the coarse model: it comes back in the fine stage."""
    output = tmp_path / "out"
    shutil.copytree(finished[0], output)
    model = read_model(output / "coarse/sparse/0")
    gone = next(image for image in model.images.values() if image.name == "view_05.png")
    model.deregister_frame(gone.frame_id)
    model.write(output / "coarse/sparse/0")
    for made in ("database.db.key", "sparse.key"):
        (output / made).unlink()
    assert run(scene[0], output, "--coarse", 250) == 0
    found = read_model(output / "sparse/0")
    errors = pose_errors(found, scene[1])
    assert "view_05.png" in errors.names
    assert errors.position.max() < 0.1
    assert np.isfinite(errors.rotation).all()
