"""Output folders: of which inputs they hold the results, one run at a time writes to them, and their text files are
whole at every moment."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from posfeat_hloc.errors import ConfigurationError, Option


class LockedError(Exception):
    """Another process, or another object of this one, holds the lock."""


class HeldLock:
    """A lock file that is held from its creation until :meth:`release`, or until the process ends.

    File systems without locks (some of networks) are used without one.

    Args:
        path: of the lock file, made where it is missing; its folder must exist. A killed process leaves the file
            behind, which is no lock by itself.
        wait: until the lock is free; otherwise a lock that is held is an error.

    Raises:
        LockedError: it is held, and ``wait`` is False.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        self.path = path
        self._lock = FileLock(path, timeout=-1 if wait else 0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise LockedError(str(path)) from error
        except (OSError, NotImplementedError):
            return

    def release(self, remove: bool = True) -> None:
        """Let others have it.

        Args:
            remove: also the file. Whoever opened it before notices that it is gone, and makes a new one.
        """
        if not self._lock.is_locked:
            return
        if remove:
            with contextlib.suppress(OSError):  # Windows removes no open file, but the lock does after its release
                self.path.unlink()
        self._lock.release()


_FULL = 16 << 20
"""Bytes; with less free space than this a disk is called full whatever the error says."""


def writing_remedy(path: Path, error: Exception) -> str:
    """What helps where a file cannot be written, by the cause that the system or the text of the error names.

    A full disk is named only where the system says so, or hardly any space is left.
    """
    number = error.errno if isinstance(error, OSError) else None
    text = str(error).lower()
    if number == errno.EFBIG:
        return "its file system, or `ulimit -f`, allows no file so large; choose another output"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "check its permissions, or choose another output"
    if number in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in text or "no space left" in text or _is_full(path):
        return "free some space and run again"
    if number == errno.EIO:
        return "the disk reports a fault; check it, or choose another output"
    return "run again, or choose another output"


def _is_full(path: Path) -> bool:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), None)
    try:
        return folder is not None and shutil.disk_usage(folder).free < _FULL
    except OSError:
        return False


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Make an output folder and keep other runs out of it; a run that is killed lets go of it, too.

    A folder that did not exist and into which nothing was written is removed again.

    Raises:
        ConfigurationError: another run is writing there, or the folder cannot be made.
    """
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a lock file that cannot be made says nothing
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be used as output folder ({error.strerror}); choose another output"
        ) from error
    try:
        lock = HeldLock(folder / ".lock")
    except LockedError as error:
        raise ConfigurationError(
            f"{folder}: another run is writing here; wait for it or choose another output"
        ) from error
    try:
        yield
    finally:
        lock.release()
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file by a complete new one, or leave it as it was.

    Bytes of paths that are not UTF-8 become ``\\udcXX``, JSON's own form of them, which its readers turn back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


_FILE = "inputs.json"
_RESULTS = ("features.h5", "matches.h5", "sparse", "summary.json")


def claim(folder: Path, inputs: Sequence[Path | str]) -> None:
    """Record what an output folder is made from, or refuse it where that is something else.

    Inputs that were recorded and are no longer there have been moved, and do not count; neither do those of a run
    that ended before it had results.

    Args:
        folder: of results; exists.
        inputs: paths, or words for what is no path. One that was there before is enough, so that videos can be added.

    Raises:
        ConfigurationError: the folder holds results of other inputs; the message names both.
    """
    path = folder / _FILE
    given = [str(item.resolve()) if isinstance(item, Path) else item for item in inputs]
    recorded = _read(path)
    there = [item for item in recorded if not Path(item).is_absolute() or Path(item).exists()]
    if there and not set(there) & set(given) and any((folder / name).exists() for name in _RESULTS):
        first = Path(given[0])
        better = folder.with_name(f"{first.parent.name}-{first.stem}" if first.is_absolute() else f"{folder.name}-2")
        raise ConfigurationError(
            f"{folder}: holds results of {there[0]}, and this run is of {given[0]}; choose another folder, such as ",
            Option("output", better),
            ", or delete this one",
        )
    if recorded != given:
        write_json(path, given)


def _read(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(item).removeprefix("--") for item in found] if isinstance(found, list) else []  # "--demo" before


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file by a complete new one; see :func:`write_atomically`."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
