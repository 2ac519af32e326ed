"""The journaled file against a plain file, and what crashes, full disks and second writers leave behind."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore, journal
from posfeat_hloc.stores.journal import JournaledFile, journal_path, recover

OLD = bytes(range(100))


class Crash(BaseException):
    """Stands for the end of the process; nothing may catch it."""


@contextlib.contextmanager
def pwrite_failing_after(calls: int, error: BaseException | type[BaseException]) -> Iterator[None]:
    """Writing works ``calls`` times, writes half of the next chunk, and then only raises."""
    real, left = journal._write_at, calls

    def pwrite(file: io.FileIO, data: memoryview, offset: int) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            return real(file, data, offset)
        if left == -1:
            real(file, data[: len(data) // 2], offset)
        raise error

    with mock.patch.object(journal, "_write_at", pwrite):
        yield


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: writes fail in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def content(path: Path) -> bytes:
    """What the next program sees."""
    recover(path)
    return path.read_bytes()


def committed(path: Path, data: bytes = OLD) -> Path:
    with JournaledFile(path) as file:
        file.write(data)
        file.commit()
    return path


class JournaledFileIsAFile(RuleBasedStateMachine):
    """Any sequence of calls does what it does to a plain file, which ``commit`` saves and ``close`` rolls back.

    A commit that fails leaves open whether its state or the one before is found later, but nothing else may be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "file"
        self.file = JournaledFile(self.path)
        self.plain = open(Path(self.folder.name) / "plain", "w+b", buffering=0)  # noqa: SIM115
        self.saved = {b""}

    @rule(data=st.binary(max_size=30))
    def write(self, data: bytes) -> None:
        assert self.file.write(data) == self.plain.write(data)

    @rule(offset=st.integers(-20, 60), whence=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]))
    def seek(self, offset: int, whence: int) -> None:
        here = self.plain.tell()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: here, os.SEEK_END: self.plain.seek(0, os.SEEK_END)}[whence]
        self.plain.seek(here)
        offset = max(-base, offset)
        assert self.file.seek(offset, whence) == self.plain.seek(offset, whence)

    @rule(size=st.none() | st.integers(0, 80))
    def truncate(self, size: int | None) -> None:
        assert self.file.truncate(size) == self.plain.truncate(size)

    @rule(size=st.integers(0, 50))
    def read(self, size: int) -> None:
        assert self.file.read(size) == self.plain.read(size)

    @rule()
    def commit(self) -> None:
        self.file.commit()
        assert self.path.read_bytes() == self.everything(self.plain)
        assert not self.file.journal.exists()
        self.saved = {self.path.read_bytes()}

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = JournaledFile(self.path)
        found = self.path.read_bytes()
        assert found in self.saved
        self.saved = {found}
        self.plain.truncate(0)
        self.plain.seek(0)
        self.plain.write(found)
        self.plain.seek(0)

    @rule(calls=st.integers(0, 4))
    def crash_in_commit(self, calls: int) -> None:
        after = {self.everything(self.plain)}
        # the journal is always complete when it comes to pwrite, unless that is for an earlier one
        self.saved = self.saved | after if self.file.journal.exists() else after
        with pwrite_failing_after(calls, Crash), contextlib.suppress(Crash):
            self.file.commit()
        self.reopen()

    @rule(calls=st.integers(0, 4))
    def disk_fails_in_commit(self, calls: int) -> None:
        self.saved = self.saved | {self.everything(self.plain)}
        with contextlib.suppress(StoreError), pwrite_failing_after(calls, OSError(5, "Input/output error")):
            self.file.commit()
            self.saved = {self.everything(self.plain)}

    @rule(limit=st.integers(0, 120))
    def disk_full_in_commit(self, limit: int) -> None:
        journal_before = self.file.journal.exists()
        with contextlib.suppress(StoreError), file_size_limit(limit):
            self.file.commit()
            self.saved = {self.everything(self.plain)}
        assert journal_before or not self.file.journal.exists()
        assert journal_before or self.path.read_bytes() in self.saved

    @invariant()
    def same_position_and_bytes(self) -> None:
        assert self.file.tell() == self.plain.tell()
        assert self.everything(self.file) == self.everything(self.plain)

    @staticmethod
    def everything(file: Any) -> bytes:
        here = file.tell()
        file.seek(0)
        data: bytes = file.read()
        file.seek(here)
        return data

    def teardown(self) -> None:
        self.file.close()
        self.plain.close()
        self.folder.cleanup()


TestJournaledFileIsAFile = JournaledFileIsAFile.TestCase
TestJournaledFileIsAFile.settings = settings(deadline=None, max_examples=100, stateful_step_count=25)


@pytest.mark.parametrize("grow", ["write", "truncate"])
def test_bytes_that_were_truncated_away_do_not_come_back(tmp_path: Path, grow: str) -> None:
    with JournaledFile(committed(tmp_path / "f")) as file:
        file.truncate(10)
        if grow == "write":
            file.seek(50)
            file.write(b"x")
        else:
            file.truncate(51)
            file.seek(50)
            file.write(b"x")
        file.seek(0)
        expected = OLD[:10] + bytes(40) + b"x"
        assert file.read() == expected
        file.commit()
    assert content(tmp_path / "f") == expected


def complete_journal(path: Path, change: Callable[[JournaledFile], object]) -> bytes:
    """Kill a commit before it touches the file; returns the journal that it leaves."""
    file = JournaledFile(path)
    change(file)
    with pwrite_failing_after(0, Crash), pytest.raises(Crash):
        file.commit()
    file.close()
    return journal_path(path).read_bytes()


def change_and_grow(file: JournaledFile) -> None:
    file.seek(20)
    file.write(b"middle")
    file.seek(95)
    file.write(b"beyond the end")


CHANGED = OLD[:20] + b"middle" + OLD[26:95] + b"beyond the end"


def test_complete_journal_is_replayed(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    journal = complete_journal(path, change_and_grow)
    assert content(path) == CHANGED
    assert not journal_path(path).exists()
    path.write_bytes(OLD)
    journal_path(path).write_bytes(journal)
    with JournaledFile(path) as file:  # not only recover()
        assert file.read() == CHANGED


def test_journal_holds_only_what_is_new(tmp_path: Path) -> None:
    def change_again(file: JournaledFile) -> None:
        file.write(b"x" * 10_000)
        file.commit()
        file.seek(0)
        file.write(b"y")

    assert len(complete_journal(committed(tmp_path / "f"), change_again)) < 200
    assert content(tmp_path / "f") == b"y" + b"x" * 9_999


@pytest.mark.parametrize("reading", [True, False])
def test_store_completes_the_journal_of_a_killed_one(tmp_path: Path, reading: bool) -> None:
    def features(value: float, n: int) -> Features:
        return Features(np.full((n, 2), value, np.float32), np.zeros(n, np.float32), np.zeros((n, 4), np.float32))

    path, configuration = tmp_path / "f.h5", {"test": "journal"}
    for calls in range(4):
        path.unlink(missing_ok=True)
        with FeatureStore(path, configuration) as store:
            store.write("a", features(1, 500), (1, 1))
            store.commit()
            store.write("a", features(2, 300), (2, 2))
            store.write("b", features(3, 700), (3, 3))
            with pwrite_failing_after(calls, Crash), pytest.raises(Crash):
                store.commit()
        assert journal_path(path).exists()
        with FeatureStore(path, None if reading else configuration) as store:
            assert store.names() == ["a", "b"]
            assert (store.keypoints("a") == np.full((300, 2), 2)).all()
            assert (store.keypoints("b") == np.full((700, 2), 3)).all()
        assert not journal_path(path).exists()


def test_every_truncation_of_a_journal_is_dropped(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    journal = complete_journal(path, change_and_grow)
    for length in range(len(journal)):
        path.write_bytes(OLD)
        journal_path(path).write_bytes(journal[:length])
        assert content(path) == OLD, length
        assert not journal_path(path).exists()


def test_journal_with_other_bytes_is_dropped(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    journal = bytearray(complete_journal(path, change_and_grow))
    path.write_bytes(OLD)
    journal[-1] ^= 1
    journal_path(path).write_bytes(journal)
    assert content(path) == OLD


@pytest.mark.parametrize("change", [change_and_grow, lambda file: file.truncate(30)], ids=["grow", "shrink"])
def test_crashes_at_each_write_of_the_replay(tmp_path: Path, change: Callable[[JournaledFile], object]) -> None:
    expected = CHANGED if change is change_and_grow else OLD[:30]
    crashes = 0
    for calls in range(6):
        path = committed(tmp_path / str(calls))
        file = JournaledFile(path)
        change(file)
        try:
            with pwrite_failing_after(calls, Crash):
                file.commit()
        except Crash:
            crashes += 1
        file.close()
        # the process that repairs it may die as well
        with pwrite_failing_after(calls, Crash), contextlib.suppress(Crash):
            recover(path)
        assert content(path) == expected
    assert (crashes > 1) == (change is change_and_grow)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    real = journal._write_at
    with mock.patch.object(journal, "_write_at", lambda file, data, offset: real(file, data[:3], offset)):
        committed(tmp_path / "f")
    assert content(tmp_path / "f") == OLD


def test_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with JournaledFile(path) as file:
        with pytest.raises(StoreError, match="in use by another process") as caught:
            JournaledFile(path)
        assert str(path) in str(caught.value)
        file.write(b"first")
        file.commit()
    with JournaledFile(path) as file:
        assert file.read() == b"first"


def test_unusable_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "below a file"):
        with pytest.raises(StoreError, match="cannot be opened for writing") as caught:
            JournaledFile(path)
        assert str(path) in str(caught.value)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert content(committed(tmp_path / "a" / "b" / "f")) == OLD


def test_journal_of_a_deleted_file_is_not_for_its_successor(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    complete_journal(path, change_and_grow)
    path.unlink()
    with JournaledFile(path) as file:
        assert file.read() == b""
    assert not journal_path(path).exists()


def test_unwritable_replay_is_a_store_error_and_can_be_repeated(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    complete_journal(path, change_and_grow)
    with pwrite_failing_after(1, OSError(28, "No space left on device")):
        with pytest.raises(StoreError, match="No space left on device") as caught:
            JournaledFile(path)
        assert str(path) in str(caught.value)
    assert content(path) == CHANGED


def test_full_disk_leaves_the_last_commit(tmp_path: Path) -> None:
    path = committed(tmp_path / "f", OLD * 1000)
    for limit in (0, 10_000, 100_500):  # for nothing, for a part of the journal, for a part of the file's new end
        file = JournaledFile(path)
        file.seek(0)
        file.write(b"x" * 100)
        file.seek(100_000)
        file.write(b"y" * 20_000)
        with file_size_limit(limit), pytest.raises(StoreError, match="no file so large"):
            file.commit()
        assert path.read_bytes() == OLD * 1000
        assert sorted(os.listdir(tmp_path)) == ["f", "f.lock"]  # the journal gave its space back
        if limit == 100_500:
            file.commit()  # there is space again
        file.close()
    assert content(path) == b"x" * 100 + (OLD * 1000)[100:] + b"y" * 20_000


def test_commit_after_a_failed_replay_never_loses_the_journal(tmp_path: Path) -> None:
    path = committed(tmp_path / "f")
    file = JournaledFile(path)
    file.write(b"new beginning")
    with pwrite_failing_after(0, OSError(5, "Input/output error")), pytest.raises(StoreError, match="Input/output"):
        file.commit()
    # now the file is half written; the next commit dies while it writes its journal
    file.seek(50)
    file.write(b"z" * 50)
    with file_size_limit(60), contextlib.suppress(StoreError):
        file.commit()
    file.close()
    assert content(path) == b"new beginning" + OLD[13:]
