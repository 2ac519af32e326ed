"""The folder of a run: what it resumes from and what it refuses."""

from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from posfeat_hloc.errors import ConfigurationError, TrainingError
from posfeat_hloc.training.loop import RunFolder


def test_a_new_run_starts_with_an_empty_log(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {"a": 1})
    assert folder.resume() is None
    folder.log({"step": 1})
    assert RunFolder(tmp_path / "run", {"a": 1}).resume() is None  # killed before its first checkpoint
    assert not folder.log_file.exists()


def test_a_run_resumes_from_its_checkpoint_and_forgets_later_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"a": 1, "nested": {"b": (1.5, None)}})
    folder.resume()
    for step in (1, 2, 3):
        folder.log({"step": step, "loss": 0.5})
    folder.save(2, network={"weight": torch.arange(3.0)})
    with folder.log_file.open("a") as log:
        log.write('{"step": 4, "lo')  # what a kill leaves
    state = RunFolder(tmp_path, {"a": 1, "nested": {"b": (1.5, None)}}).resume()
    assert state is not None
    assert state["step"] == 2
    assert torch.equal(state["network"]["weight"], torch.arange(3.0))
    assert [line[:9] for line in folder.log_file.read_text().splitlines()] == ['{"step": ', '{"step": ']


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"a": 1, "b": 2, "c": 3}).save(1)
    with pytest.raises(ConfigurationError, match=r"other options \(b, d\); use the same"):
        RunFolder(tmp_path, {"a": 1, "b": 5, "c": 3, "d": 4}).resume()


def test_only_one_process_touches_the_log(tmp_path: Path) -> None:
    chief, other = RunFolder(tmp_path, {}), RunFolder(tmp_path, {}, writes=False)
    chief.log({"step": 1})
    assert other.resume() is None
    assert chief.log_file.exists()
    chief.save(0)
    assert other.resume() is not None
    assert len(chief.log_file.read_text().splitlines()) == 1


def test_some_options_may_change(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"rate": 1.0, "b": 2}).save(3)
    state = RunFolder(tmp_path, {"rate": 0.5, "b": 2}, changeable=("rate",)).resume()
    assert state is not None
    assert state["step"] == 3
    with pytest.raises(ConfigurationError, match=r"options \(b\)"):
        RunFolder(tmp_path, {"rate": 0.5, "b": 1}, changeable=("rate",)).resume()


@pytest.mark.parametrize("content", [b"", b"half a checkpoint", None])
def test_a_file_that_is_no_checkpoint_is_named(content: bytes | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {})
    if content is None:
        torch.save({"state_dict": {}}, folder.checkpoint)
    else:
        folder.checkpoint.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"checkpoint\.pt: no checkpoint of a run .*delete it"):
        folder.resume()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path, {})
    folder.save(1)

    def full(state: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"cannot be written .*run again"):
        folder.save(2)
    monkeypatch.undo()
    state = folder.resume()
    assert state is not None
    assert state["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_run_of_a_version_with_fewer_options_goes_on(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"loss": {"a": 1, "inner": {"b": 2}}}).save(4)
    newer = {"loss": {"a": 1, "inner": {"b": 2, "c": 3}, "d": 4}}
    assert RunFolder(tmp_path, newer).resume() is not None
    for other in ({"loss": {"a": 2, "inner": {"b": 2}}}, {"loss": {"a": 1, "inner": {"b": 3}}}, {"loss": {"a": 1}}):
        with pytest.raises(ConfigurationError, match=r"options \(loss\)"):
            RunFolder(tmp_path, other).resume()
