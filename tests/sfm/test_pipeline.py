"""Reconstruction as functions: from photographs to a model, the confs that its options ask for, pairs by a file."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

import posfeat_hloc
from pipelines import sfm
from posfeat_hloc import LocalizationOptions, SfmOptions, confs, extractors
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.runtime.reporter import Callback, Progress
from posfeat_hloc.sfm.choices import choose_pairs
from posfeat_hloc.sfm.job import Job, configurations
from posfeat_hloc.sfm.options import retrieval_source
from posfeat_hloc.sfm.summary import SfmResult
from tests.rendering import write_scene


def test_photographs_become_a_model_in_which_one_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "photos", 4)
    heard: list[str | Progress] = []
    options = SfmOptions(feature="sift", max_keypoints=800, device="cpu", threads=1, export=("ply",))
    result = posfeat_hloc.reconstruct(tmp_path / "photos", tmp_path / "out", options, Callback(heard.append))
    assert result.complete
    assert result.models[0].registered == 4
    assert (tmp_path / "out/export/points.ply").is_file()
    bars = {event.stage: event for event in heard if isinstance(event, Progress)}
    assert (bars["extract"].done, bars["extract"].total) == (4, 4)
    assert (bars["match"].done, bars["match"].total) == (6, 6)
    assert any("camera=single" in text for text in heard if isinstance(text, str))
    recorded = json.loads((tmp_path / "out/summary.json").read_text())["command"]
    assert (recorded["feature"], recorded["export"], recorded["pairs"]) == ("sift", ["ply"], "exhaustive")
    assert recorded["images"] == str(tmp_path / "photos")

    (tmp_path / "queries").mkdir()
    (tmp_path / "photos/view_01.png").rename(tmp_path / "queries/again.png")
    queries = LocalizationOptions(device="cpu", threads=1)
    found = posfeat_hloc.localize(tmp_path / "out", tmp_path / "queries", tmp_path / "located", queries)
    assert found.localized == 1
    assert capsys.readouterr().out == ""  # nobody asked a library to print


def test_what_does_not_fit_names_options_as_python_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no input; name a folder of photographs by images, a video, or try"):
        posfeat_hloc.reconstruct(None, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="loop_closure is for pairs=sequential") as caught:
        posfeat_hloc.reconstruct(tmp_path, tmp_path / "out", SfmOptions(loop_closure=True, pairs="exhaustive"))
    assert [option.name for option in caught.value.options] == ["loop_closure", "pairs"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", confs.extractors)
def test_every_feature_takes_a_number_of_keypoints(name: str) -> None:
    before = extractors.keypoint_limit(confs.extractors[name]["model"])
    feature, _ = configurations(SfmOptions(feature=name, max_keypoints=77, max_size=640))
    assert extractors.keypoint_limit(feature["model"]) == 77
    assert feature["preprocessing"]["resize_max"] == 640
    known = {
        f.name for f in fields(import_module(f"posfeat_hloc.extractors.{confs.module_of(feature['model'])}").Options)
    }
    assert set(feature["model"]) <= known | {"name"}
    assert extractors.keypoint_limit(confs.extractors[name]["model"]) == before  # the conf itself stays


def test_a_feature_with_other_options() -> None:
    text = "d2d-hardnet:resize_max=3072:terms=absolute"
    feature, matcher = configurations(SfmOptions(feature=text))
    expected = confs.extractors["d2d-hardnet"]
    assert feature["model"] == expected["model"] | {"terms": "absolute"}
    assert feature["preprocessing"] == expected["preprocessing"] | {"resize_max": 3072}
    assert matcher == confs.matchers[confs.default_matchers["d2d-hardnet"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [("surf", "'surf' is neither a feature"), ("sift:fast", "not OPTION=VALUE"), ("a.h5", "'a.h5' is a file")],
)
def test_what_is_no_feature(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sfm.main(["--images", "x", "--feature", text])
    assert message in capsys.readouterr().err


NAMES = ["a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg"]


def write_as_hloc(path: Path, angles: dict[str, float]) -> Path:
    """Unit vectors in a plane, in half precision, and the size of the image: hloc's layout."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, angle in angles.items():
            group = file.create_group(name)
            group["global_descriptor"] = np.array([np.cos(angle), np.sin(angle)], np.float16)
            group["image_size"] = np.array([640, 480])
    return path


def pairs_of(path: Path, count: int, run: SfmResult) -> set[frozenset[str]]:
    options = SfmOptions(pairs="retrieval", retrieval=str(path), neighbors=count)
    job = Job(path.parent, path.parent, options, result=run, usable=NAMES)
    return {frozenset(pair) for pair in choose_pairs(job, NAMES)}


def test_images_are_paired_with_the_most_similar_ones_of_the_file(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "global-feats-megaloc.h5", dict(zip(NAMES, (0.0, 1.0, 1.1, 0.1), strict=True)))
    run = SfmResult()
    assert pairs_of(path, 1, run) == {frozenset(["a.jpg", "e.jpg"]), frozenset(["b/c.jpg", "b/d.jpg"])}
    assert set(run.seconds) == {"retrieve"}
    assert len(pairs_of(path, 3, run)) == 6


def test_images_that_the_file_does_not_describe_are_noted(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "g.h5", {"a.jpg": 0.0, "e.jpg": 0.1, "of another folder.jpg": 0.05})
    run = SfmResult()
    assert pairs_of(path, 2, run) == {frozenset(["a.jpg", "e.jpg"])}
    assert {name for name, note in run.extraction.notes.items() if f"{path} does not describe it" in str(note)} == {
        "b/c.jpg", "b/d.jpg",
    }  # fmt: skip


def test_what_is_refused(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "g.h5", {"a.jpg": 0.0, "x.jpg": 0.1})
    with pytest.raises(ConfigurationError, match=r"g\.h5: describes fewer than two of the images"):
        pairs_of(path, 2, SfmResult())
    with pytest.raises(StoreError, match=r"nowhere\.h5"):
        pairs_of(tmp_path / "nowhere.h5", 2, SfmResult())
    assert retrieval_source("vlad-hardnet") == "vlad-hardnet"
    assert retrieval_source("out/g.h5") == "out/g.h5"
    with pytest.raises(ValueError, match=r"'netvlad' is not one of vlad-hardnet, .*nor an HDF5 file"):
        retrieval_source("netvlad")
