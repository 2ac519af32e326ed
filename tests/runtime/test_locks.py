"""Lock files: one holder, waiting, and that nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from posfeat_hloc.runtime.locks import HeldLock, LockedError

HOLD = """
import sys, time
from pathlib import Path
from posfeat_hloc.runtime.locks import HeldLock
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


def test_file_systems_without_locks_are_used_none_the_less(tmp_path: Path) -> None:
    with mock.patch("fcntl.flock", side_effect=OSError(95, "Operation not supported")):
        HeldLock(tmp_path / "x").release()
