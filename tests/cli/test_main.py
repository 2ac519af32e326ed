"""The command line as a whole: its help, its commands, and what earlier versions recorded."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from posfeat_hloc.cli.main import COMMANDS, exit_code, main, parsed
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.report.sections import command_line
from posfeat_hloc.sfm.summary import recorded_command

OLD = {
    "images": "photos", "image_list": None, "demo": False, "video": None, "frames": None, "motion": None, "masks": None,
    "gps": False, "feature": "sift", "matcher": None, "weights": None, "max_size": 800, "max_keypoints": None,
    "orientation": "exif", "pairs": "exhaustive", "overlap": 10, "loop_closure": False, "neighbors": None,
    "retrieval": "vlad-hardnet", "camera": "single", "rig": None, "camera_model": "PINHOLE",
    "camera_params": [500.0, 500.5, 320.0, 240.0], "fix_camera": False, "mapper": "incremental", "coarse": 0,
    "output": "outputs/photos", "export": None, "no_report": False, "quiet": True, "device": "auto", "ray": None,
    "memory": 1073741824, "seed": 0, "threads": 1, "photos": None,
}  # fmt: skip
"""Options of a reconstruction, as version 0.1 of this package recorded them before they were a dataclass."""


def test_the_help_fits_a_screen_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    listed = text.replace(",", " ").split()
    assert [name for name in COMMANDS if name not in listed] == []
    assert main([]) == 0


def test_no_help_needs_torch_or_colmap() -> None:
    code = f"""
import contextlib, io, sys
from posfeat_hloc.cli.main import main
for name in {COMMANDS!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([name, "--help"])
    assert out.getvalue().startswith(f"usage: posfeat-hloc {{name}} "), name
print([name for name in ("torch", "pycolmap", "cv2", "h5py", "kornia") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("word", "told"), [("sfn", "did you mean sfm?"), ("fly", "choose from sfm, ")])
def test_a_word_that_is_no_command(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert told in capsys.readouterr().err


def test_hlocs_flags_have_our_words_beside_them() -> None:
    for given in (["--image_dir", "a", "--export_dir", "b"], ["--images", "a", "--output", "b"]):
        args = parsed(["extract", *given])[1]
        assert (args.image_dir, args.export_dir) == (Path("a"), Path("b"))


def test_a_recorded_configuration_of_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"command": OLD}))
    assert recorded_command(tmp_path) == OLD
    words = shlex.split(command_line("sfm", {k: v for k, v in OLD.items() if k != "export"}))
    args = parsed(words[1:])[1]
    assert (args.images, args.output) == (Path("photos"), Path("outputs/photos"))
    for name, value in OLD.items():
        if name not in ("images", "output", "photos", "quiet", "no_report", "export", "camera_params"):
            assert getattr(args.options, name) == value, name
    assert args.options.camera_params == (500, 500.5, 320, 240)


def test_a_command_line_that_means_nothing_is_told_in_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sfm"]) == 2
    assert "name a folder of photographs by --images, a --video, or try --demo" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="by images, a video, or try demo"):
        parsed(["sfm"])


def raising(error: BaseException) -> Callable[[], bool]:
    def action() -> bool:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "code", "printed"),
    [
        (lambda: True, 0, ""),
        (lambda: False, 1, ""),
        (raising(StoreError("f.h5: damaged")), 1, "error: f.h5: damaged\n"),
        (raising(OSError(28, "No space left on device", "m.h5")), 1, "error: m.h5: No space left on device\n"),
        (raising(OSError("write failed")), 1, "error: out: write failed\n"),
        (raising(torch.OutOfMemoryError("2 GB")), 1, "error: out of memory (2 GB); use smaller images or batches\n"),
        (raising(KeyboardInterrupt()), 130, "\nstopped; run it again\n"),
    ],
)
def test_ends(action: Callable[[], bool], code: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(action, Path("out"), "run it again") == code
    assert capsys.readouterr().err == printed


def test_an_error_of_the_system_without_any_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(OSError(12, "Cannot allocate memory")), None, "") == 1
    assert capsys.readouterr().err == "error: Cannot allocate memory\n"


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: bool(1 / 0), None, "")
    with pytest.raises(RuntimeError, match="a mistake"):
        exit_code(raising(RuntimeError("a mistake")), None, "")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "posfeat_hloc", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as head does
        assert process.stderr.read() == b""
    assert process.returncode == 141
