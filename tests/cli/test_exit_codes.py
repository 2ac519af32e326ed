"""What a command prints and returns at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import StoreError


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
    assert exit_code(raising(BrokenPipeError(32, "Broken pipe")), None, "") == 1
    assert capsys.readouterr().err == "error: Broken pipe\n"


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: bool(1 / 0), None, "")
    with pytest.raises(RuntimeError, match="a mistake"):
        exit_code(raising(RuntimeError("a mistake")), None, "")
