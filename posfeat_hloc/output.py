"""Output folders: one run at a time writes to them, and their text files are whole at every moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows has no flock; two runs in one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]


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
        lock = os.open(folder, os.O_RDONLY) if fcntl is not None else -1
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be used as output folder ({error.strerror}); choose another output"
        ) from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"{folder}: another run is writing here; wait for it or choose another output"
                ) from error
            except OSError:
                pass  # some network file systems lock no folders; the HDF5 files there have locks of their own
        yield
    finally:
        if lock >= 0:
            os.close(lock)
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
