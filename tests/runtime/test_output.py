"""Whole texts, and one run in a folder; that a second process is refused is tested in tests/crash."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.output import only_writer, write_atomically, writing_remedy


def test_a_text_is_replaced_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "ä")
    assert path.read_text(encoding="utf-8") == "ä"
    full = OSError(28, "No space left on device")
    with mock.patch.object(Path, "write_text", side_effect=full), pytest.raises(OSError, match="No space"):
        write_atomically(path, "other")
    assert path.read_text(encoding="utf-8") == "ä"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="cannot be used as output folder"), only_writer(folder):
            pass


def test_a_run_that_fails_lets_go_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "a" / "b").mkdir()
    with only_writer(tmp_path / "a" / "b"):
        assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == [".lock"]
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_file_systems_without_locks_are_used_none_the_less(tmp_path: Path) -> None:
    with mock.patch("fcntl.flock", side_effect=OSError(95, "Operation not supported")), only_writer(tmp_path):
        (tmp_path / "x").touch()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space"),
        (RuntimeError("SQLite error: database or disk is full"), "free some space"),
        (RuntimeError("SQLite error: database is locked"), "run again"),
        (OSError(errno.EFBIG, "File too large"), "no file so large"),
        (OSError(errno.EROFS, "Read-only file system"), "permissions"),
        (OSError(errno.EIO, "Input/output error"), "check it"),
    ],
)
def test_space_is_asked_for_only_where_it_lacks(error: Exception, told: str, tmp_path: Path) -> None:
    found = writing_remedy(tmp_path / "new" / "database.db", error)
    assert told in found
    assert ("space" in found) == (told == "free some space")


def test_a_disk_without_space_is_full_whatever_the_error_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert "free some space" in writing_remedy(tmp_path / "a", RuntimeError("failed writing file"))
