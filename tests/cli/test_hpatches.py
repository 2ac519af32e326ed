"""The command, end to end, on rendered sequences with exact homographies."""

import json
import shutil

import numpy as np
import pytest

from pipelines import hpatches
from posfeat_hloc.evaluation.homography import match_errors, matching_accuracy
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore
from tests.cli import rows
from tests.sequences import write_sequence


def run(dataset, output, *arguments):
    return hpatches.main(["--dataset", str(dataset), "--output", str(output), "--quiet", *map(str, arguments)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hpatches")
    write_sequence(folder / "v_wall", "hpatches", moved=True, seed=1)
    write_sequence(folder / "i_books", "hpatches", moved=False, seed=2)
    write_sequence(folder / "v_talent", "hpatches", moved=True, seed=3)
    return folder


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    features = ["--features", "sift", "sift:max_keypoints=30", "--published", "PoSFeat", "SuperPoint"]
    assert run(dataset, output, *features) == 0
    return output


def test_the_table_agrees_with_the_stored_features(dataset, finished):
    """MMA of one sequence again, by brute force over the cosines of the stored descriptors."""
    curves = []
    with FeatureStore(finished / "features/sift.h5") as store:
        assert not any("talent" in name for name in store.names())
        first = store.read("v_wall/1.ppm")
        for i in range(2, 7):
            other = store.read(f"v_wall/{i}.ppm")
            similarity = first.descriptors @ other.descriptors.T
            there, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
            pairs = np.array([(a, b) for a, b in enumerate(there) if back[b] == a])
            homography = np.loadtxt(dataset / f"v_wall/H_1_{i}")
            curves.append(matching_accuracy(match_errors(first.keypoints, other.keypoints, pairs, homography)))
    found = [float(row["viewpoint"]) for row in rows(finished / "curves.csv") if row["feature"] == "sift"]
    np.testing.assert_allclose(found, np.mean(curves, axis=0), atol=1e-3)  # ties in half precision
    assert found[2] > 0.8


def test_measured_and_published_rows_are_told_apart(finished):
    table = rows(finished / "mma.csv")
    assert [(row["feature"], row["numbers"]) for row in table] == [
        ("sift", "measured here"), ("sift:max_keypoints=30", "measured here"),
        ("PoSFeat", "PoSFeat fig. 5"), ("SuperPoint", "PoSFeat fig. 5"),
    ]  # fmt: skip
    assert round(float(table[2]["MMAscore"]), 3) == 0.775
    assert [round(float(table[2][g]), 3) for g in ("illumination", "viewpoint")] == [0.826, 0.728]
    assert float(table[1]["keypoints"]) == 30
    assert float(table[0]["ratio"]) == pytest.approx(float(table[0]["matches"]) / float(table[0]["keypoints"]))
    latex = (finished / "mma.tex").read_text()
    assert r"sift:max\_keypoints=30 & measured here" in latex
    assert "PoSFeat & PoSFeat fig. 5 & 0.775 & 0.826 & 0.728" in latex
    each = rows(finished / "sequences.csv")
    assert [row["sequence"] for row in each] == ["i_books", "v_wall"]
    assert float(each[0]["sift"]) == pytest.approx(float(table[0]["illumination"]))


def test_the_same_command_keeps_features_and_results(dataset, finished, capsys):
    before = (finished / "mma.csv").read_text()
    files = [finished / "features/sift.h5", finished / "measured/sift.jsonl"]
    lines = [line for line in files[1].read_text().splitlines() if line]
    times = files[0].stat().st_mtime_ns
    assert run(dataset, finished, "--features", "sift", "sift:max_keypoints=30", "--published", "PoSFeat",
               "SuperPoint") == 0  # fmt: skip
    assert files[0].stat().st_mtime_ns == times
    assert [line for line in files[1].read_text().splitlines() if line] == lines
    assert len(lines) == 10
    assert (finished / "mma.csv").read_text() == before
    text = capsys.readouterr().out
    assert "left out by the protocol (1): v_talent" in text
    told = (
        "not in this folder: 106 of the protocol's 108 (i_ajuntament, i_autannes, i_bologna, i_boutique, i_bridger, ..."
    )
    assert told in text
    assert "i_brooklyn" not in text
    assert len(json.loads((finished / "summary.json").read_text())["absent"]) == 106
    assert "2 sequences of" in text


def test_top_k_takes_the_strongest_and_latex_is_printed(dataset, finished, tmp_path, capsys):
    shutil.copytree(finished / "features", tmp_path / "features")
    assert run(dataset, tmp_path, "--features", "sift", "--top-k", 25, "--latex", "--published") == 0
    (row,) = rows(tmp_path / "mma.csv")
    assert float(row["keypoints"]) == 25
    assert r"\begin{tabular}" in capsys.readouterr().out


def test_oxford_folders_have_no_published_rows(tmp_path, capsys):
    write_sequence(tmp_path / "d/graf", "oxford", moved=True, suffix=".png")
    assert run(tmp_path / "d", tmp_path / "out", "--features", "sift:max_keypoints=50") == 0
    (row,) = rows(tmp_path / "out/mma.csv")
    assert row["illumination"] == ""
    assert row["viewpoint"] == row["MMAscore"]
    assert "not shown beside other images" in capsys.readouterr().out


def test_unreadable_images_and_homographies_take_their_sequence_out(dataset, tmp_path, capsys):
    shutil.copytree(dataset, tmp_path / "d")
    write_sequence(tmp_path / "d/v_bird", "hpatches", moved=True)
    (tmp_path / "d/v_wall/3.ppm").write_bytes(b"no picture")
    (tmp_path / "d/v_bird/H_1_2").write_text("1 0 0")
    assert run(tmp_path / "d", tmp_path / "out", "--features", "sift:max_keypoints=20") == 0
    assert [row["sequence"] for row in rows(tmp_path / "out/sequences.csv")] == ["i_books"]
    text = capsys.readouterr().out
    assert "not used: v_wall: " in text
    assert "v_wall/3.ppm" in text
    assert "v_bird/H_1_2: is not an invertible 3x3 matrix" in text


def test_feature_files_of_others(dataset, tmp_path, capsys):
    names = [f"{s}/{i}.ppm" for s in ("i_books", "v_wall") for i in range(1, 7)]
    empty, point = Features.empty(8), Features(np.ones((1, 2), "f4"), np.ones(1, "f4"), np.eye(1, 8, dtype="f4"))
    with FeatureStore(tmp_path / "mine.h5", {}) as store:
        for name in names[:-1]:
            store.write(name, empty if name == "i_books/3.ppm" else point, (160, 120))
        store.commit()
    assert run(dataset, tmp_path / "out", "--features", tmp_path / "mine.h5") == 1
    error = capsys.readouterr().err
    assert "mine.h5: holds no features of 'v_wall/6.ppm' (1 of 12 images are missing)" in error
    with FeatureStore(tmp_path / "mine.h5", {}) as store:
        store.write(names[-1], point, (160, 120))
        store.commit()
    assert run(dataset, tmp_path / "out", "--features", tmp_path / "mine.h5", "--published") == 0
    (row,) = rows(tmp_path / "out/mma.csv")
    assert float(row["illumination"]) == pytest.approx(0.8)  # identity homographies, but one of five pairs has no match
    assert "mine: 1 pairs without a match count as accuracy 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "surf"], "'surf' is neither a feature nor a .h5 file"),
        (["--features", "sift:speed=9"], "sift has no option speed"),
        (["--features", "none.h5"], "none.h5: no such file"),
        (["--features", "sift", "--published", "KAZE"], "'KAZE' has no curve; there are PoSFeat"),
    ],
)
def test_wrong_arguments_end_with_a_message(dataset, tmp_path, capsys, arguments, message):
    assert run(dataset, tmp_path, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_folder_without_sequences_ends_with_a_message(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "out") == 1
    assert "holds no sequence; expected HPatches" in capsys.readouterr().err
