"""The pages of localization, Aachen and matching accuracy, from the files that these commands leave."""

import json
import re

import numpy as np
import pycolmap
import pytest
from PIL import Image

pytest.importorskip("plotly", reason='the report needs pip install ".[report]"')
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from posfeat_hloc.localization.results import Localized, Log, write_results
from posfeat_hloc.report.page import DASH, write_report


def at(x):
    return pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-x, 0.0, 0.0]))


def write_log(path):
    """One query right, one 0.3 units off, one lost."""
    with Log(path) as log:
        log.add("k", Localized("a.jpg", at(1.0), matches=200, inliers=150))
        log.add("k", Localized("b.jpg", at(2.3), matches=90, inliers=31))
        log.add("k", Localized("c.jpg", matches=9, inliers=0, reason="too few matches with 3D points"))
        log.finish()


def text_of(path):
    html = path.read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<style.*?</style>|src=\"data:[^\"]*\"", "", html)))


def write_truth(path):
    write_results(path, {"a.jpg": at(1.0), "b.jpg": at(2.0), "c.jpg": at(3.0)})


def test_localization_with_known_poses(tmp_path):
    write_log(tmp_path / "queries.jsonl")
    write_truth(tmp_path / "truth.txt")
    summary = {
        "queries": 4, "localized": 2, "feature": "sift", "median_inliers": 31.0, "median_matches": 90.0,
        "map": {"model": "gone/sparse/0"}, "not_localized": {"d.jpg": "the file is empty"}, "seconds": {"match": 2.5},
        "errors": {"median_position": 0.3, "median_rotation": 0.0,
                   "recall": [{"position": 0.25, "rotation": 2.0, "recall": 1 / 3}]},
        "command": {"map": "m", "queries": ["q"], "ground_truth": str(tmp_path / "truth.txt"), "seed": 3},
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text = text_of(write_report(tmp_path))
    for part in ("2 of 4 queries localized", "0.25, 2° 33.3 %",
                 f"c.jpg 0 9 {DASH} {DASH} too few matches with 3D points",
                 "b.jpg 31 90 0.300 0.00 localized", "a.jpg 150 200 0.000 0.00 localized", "d.jpg the file is empty",
                 "posfeat-hloc localize --map m --queries q"):  # fmt: skip
        assert part in text
    for plot in ("queries_inliers", "queries_position", "queries_rotation", "stage_times"):
        with Image.open(tmp_path / f"report/{plot}.png") as picture:
            assert picture.size[0] > 200


def test_localization_that_was_stopped(tmp_path):
    write_log(tmp_path / "queries.jsonl")
    text = text_of(write_report(tmp_path))
    assert "The run has not finished" in text
    assert "a.jpg 150 200 localized" in text


def test_a_damaged_log_is_named(tmp_path):
    (tmp_path / "queries.jsonl").write_text("no record\n")
    assert "queries.jsonl, line 1: not a record" in text_of(write_report(tmp_path))


def test_aachen(tmp_path):
    (tmp_path / "seed-0").mkdir()
    write_log(tmp_path / "seed-0/localization.jsonl")
    model = {"points": 9433, "reprojection_error": 0.156}
    summary = {
        "dataset": {"version": "v1.1", "protocol": "hloc", "queries": 3},
        "trials": [{"seed": 0, "model": model, "localized": 2, "failed": {"c.jpg": "x", "e.jpg": "no features"}}],
        "thresholds": [[0.25, 2.0], [0.5, 5.0]],
        "recall": {"day": [{"mean": 0.5, "deviation": 0.0}, {"mean": 1.0, "deviation": 0.02}]},
        "command": {"feature": "sift"}, "notes": ["3 of 9 pairs left out"],
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text = text_of(write_report(tmp_path))
    for part in ("Aachen Day-Night v1.1, hloc protocol, sift", "2 of 3 queries localized", "9 433 3D points",
                 "queries 0.25, 2° 0.5, 5° day 50.0 100.0 ± 2.0", "b.jpg 31 90 localized", "e.jpg no features",
                 "3 of 9 pairs left out"):  # fmt: skip
        assert part in text
    assert (tmp_path / "report/queries_seed-0_inliers.png").is_file()


def test_matching_accuracy(tmp_path):
    (tmp_path / "mma.csv").write_text(
        "feature,numbers,MMAscore,keypoints\nsift,measured here,0.51234567,8192.0\nD2-Net,published,0.4,\n"
    )
    (tmp_path / "curves.csv").write_text("feature\n")
    (tmp_path / "sequences.csv").write_text("sequence,sift\ngraf,0.25\n")
    Image.new("RGB", (300, 200)).save(tmp_path / "mma.png")
    summary = {"sequences": ["graf"], "command": {"dataset": "d", "features": ["sift", "a b"]}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    path = write_report(tmp_path)
    text = text_of(path)
    for part in ("0.512 MMAscore of sift", "sift measured here 0.512 8192", f"D2-Net published 0.400 {DASH}",
                 "graf 0.250",
                 "posfeat-hloc hpatches --dataset d --features sift &#39;a b&#39;"):  # fmt: skip
        assert part in text
    assert path.read_text().count('src="data:image/png') == 1


def test_matching_accuracy_that_was_stopped(tmp_path):
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured/sift.jsonl").write_text("{}\n{}\n")
    text = text_of(write_report(tmp_path))
    assert "No results yet" in text
    assert "sift: 2 image pairs measured so far" in text
