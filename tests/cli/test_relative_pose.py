"""The command on rendered views with known cameras."""

import numpy as np
import pytest

from pipelines import relative_pose
from posfeat_hloc.evaluation.relative_pose import pose_auc
from tests.cli import rows
from tests.rendering import calibration, write_scene

SIFT = ("--features", "sift:max_keypoints=1000")


def run(images, pairs, output, *arguments):
    command = ["--pairs", *map(str, pairs), "--images", str(images), "--output", str(output), "--quiet"]
    return relative_pose.main([*command, *map(str, arguments)])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    views = write_scene(folder / "photos", 4)
    names = sorted(views)
    lines = []
    for a, b in ((0, 1), (1, 2), (0, 3)):
        v0, v1 = views[names[a]], views[names[b]]
        rotation = v1.rotation @ v0.rotation.T
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, v1.translation - rotation @ v0.translation
        numbers = np.concatenate([calibration().ravel(), calibration().ravel(), pose.ravel()])
        lines.append(f"{names[a]} {names[b]} 0 {a % 2} " + " ".join(map(str, numbers.tolist())))
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(scene, tmp_path_factory):
    output = tmp_path_factory.mktemp("pose")
    assert run(scene / "photos", [scene / "pairs.txt"], output, *SIFT) == 0
    return output


def test_cameras_of_a_rendered_scene_are_found(finished):
    (row,) = rows(finished / "pose.csv")
    each = rows(finished / "pairs.csv")
    assert len(each) == 3
    assert max(float(pair["rotation_deg"]) for pair in each) < 1.5  # RANSAC without refinement
    errors = [max(float(pair["rotation_deg"]), float(pair["translation_deg"])) for pair in each]
    assert max(errors) < 4
    assert [float(row[f"AUC@{d}"]) for d in (5, 10, 20)] == pytest.approx(pose_auc(errors))
    assert float(row["precision"]) > 0.8
    assert (row["estimator"], row["matcher"], row["no pose"]) == ("opencv-ransac", "NN-ratio", "0")
    assert r"sift:max\_keypoints=1000 & NN-ratio & opencv-ransac" in (finished / "pose.tex").read_text()


def test_the_same_command_measures_nothing_again(scene, finished, capsys):
    record = finished / "measured/sift_max_keypoints=1000.jsonl"
    before = [line for line in record.read_text().splitlines() if line]
    table = (finished / "pose.csv").read_text()
    assert run(scene / "photos", [scene / "pairs.txt"], finished, *SIFT) == 0
    assert [line for line in record.read_text().splitlines() if line] == before
    assert (finished / "pose.csv").read_text() == table
    text = capsys.readouterr().out
    assert "3 of 3 pairs, pose by OpenCV findEssentialMat, RANSAC (SuperGlue's), 1 px, seed 0" in text
    assert "1 pairs are marked as rotated" in text
    assert run(scene / "photos", [scene / "pairs.txt"], finished, *SIFT, "--estimator", "pycolmap") == 0
    assert len([line for line in record.read_text().splitlines() if line]) == 2 * len(before)


def test_pairs_without_a_pose_count_as_failures(scene, tmp_path):
    features = ("--features", "sift:max_keypoints=3")
    assert run(scene / "photos", [scene / "pairs.txt"], tmp_path, *features, "--matcher", "NN-mutual") == 0
    (row,) = rows(tmp_path / "pose.csv")
    assert (row["AUC@20"], row["no pose"]) == ("0.0", "3")


def test_unreadable_images_are_named_and_lists_of_another_form_end_with_a_message(scene, finished, tmp_path, capsys):
    content = (scene / "pairs.txt").read_text()
    (tmp_path / "more.txt").write_text(content + content.splitlines()[0].replace("view_01.png", "gone.png") + "\n")
    assert run(scene / "photos", [tmp_path / "more.txt"], finished, *SIFT) == 0
    text = capsys.readouterr().out
    assert "3 of 4 pairs" in text
    assert "gone.png: no such file" in text
    (tmp_path / "two.txt").write_text("a.png b.png\n")
    assert run(scene / "photos", [tmp_path / "two.txt"], tmp_path, *SIFT) == 1
    assert "line 1: has 2 fields, not 38" in capsys.readouterr().err
    assert run(tmp_path / "none", [scene / "pairs.txt"], tmp_path, *SIFT) == 1
    error = capsys.readouterr().err
    assert "no pair has two readable images" in error
    assert "Traceback" not in error
