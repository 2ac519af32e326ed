"""Lock files: one holder, waiting, and that nothing stays behind."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.output import HeldLock, LockedError, claim, only_writer, write_atomically, writing_remedy

HOLD = """
import sys, time
from pathlib import Path
from posfeat_hloc.runtime.output import HeldLock
lock = HeldLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    first = HeldLock(path)
    with pytest.raises(LockedError):
        HeldLock(path)
    first.release()
    assert not path.exists()
    HeldLock(path).release()
    first.release()  # twice does no harm


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError):
        HeldLock(path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    HeldLock(path).release()
    assert not path.exists()


def test_waiting_for_many_lets_each_in_alone(tmp_path: Path) -> None:
    """Files are removed with each release, so that a waiting one must notice that its own is gone."""
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(5):
            lock = HeldLock(tmp_path / "x.lock", wait=True)
            inside += 1
            most, entered = max(most, inside), entered + 1
            time.sleep(0.002)
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 20)


def test_a_lock_is_held_without_effect_where_file_systems_have_none(tmp_path: Path) -> None:
    with mock.patch("fcntl.flock", side_effect=OSError(95, "Operation not supported")):
        HeldLock(tmp_path / "x").release()


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
