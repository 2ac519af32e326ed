"""An output folder belongs to its inputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.output_inputs import claim


def test_other_inputs_are_refused_with_both_paths(tmp_path: Path) -> None:
    first, second, output = tmp_path / "a/images", tmp_path / "b/images", tmp_path / "outputs/images"
    for folder in (first, second, output):
        folder.mkdir(parents=True)
    claim(output, [second])  # and fails before there are results
    claim(output, [first])
    (output / "features.h5").touch()
    claim(output, [first])
    with pytest.raises(ConfigurationError, match=rf"holds results of {first}, and this run is of {second}") as caught:
        claim(output, [second])
    assert f"output={tmp_path / 'outputs/b-images'}" in str(caught.value)
    with pytest.raises(ConfigurationError, match=f"results of {first}, and this run is of demo"):
        claim(output, ["demo"])


def test_inputs_that_moved_and_more_videos_are_no_others(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "sparse").mkdir()
    claim(tmp_path, [tmp_path / "a.mp4"])
    claim(tmp_path, [tmp_path / "a.mp4", tmp_path / "b.mp4"])
    claim(tmp_path, [tmp_path / "b.mp4"])
    with pytest.raises(ConfigurationError, match=r"b\.mp4, and this run is of .*c\.mp4"):
        claim(tmp_path, [tmp_path / "c.mp4"])
    shutil.move(tmp_path / "b.mp4", tmp_path / "c.mp4")
    claim(tmp_path, [tmp_path / "c.mp4"])
    (tmp_path / "inputs.json").write_text("damaged")
    claim(tmp_path, [tmp_path / "d.mp4"])


def test_a_demonstration_of_before_is_known(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('["--demo"]')
    (tmp_path / "features.h5").touch()
    claim(tmp_path, ["demo"])
    with pytest.raises(ConfigurationError, match="holds results of demo"):
        claim(tmp_path, [tmp_path / "photos"])
