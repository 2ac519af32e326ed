"""The pipelines as functions: from photographs to a model, and a photograph in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import posfeat_hloc
from posfeat_hloc import LocalizationOptions, SfmOptions
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.reporter import Callback, Progress
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
