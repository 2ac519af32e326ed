"""Output folders: one run at a time writes to them, and their text files are whole at every moment."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.locks import HeldLock, LockedError


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
    """Replace a text file by a complete new one, or leave it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
