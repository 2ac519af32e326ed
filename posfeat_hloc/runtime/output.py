"""Output folders: one run at a time writes to them, and their text files are whole at every moment."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.locks import HeldLock, LockedError

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
