"""COLMAP's messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pycolmap


def send_colmap_log_to(folder: Path) -> None:
    """COLMAP's messages go to a file of this run; only fatal ones reach the terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    log = pycolmap.logging
    log.logtostderr = False
    log.alsologtostderr = False
    log.stderrthreshold = 3
    log.set_log_destination(log.INFO, folder / "colmap-")  # the library adds the time
    for level in (log.WARNING, log.ERROR):
        log.set_log_destination(level, "")  # they are in the file of INFO as well


@contextmanager
def colmap_messages(shown: bool) -> Iterator[None]:
    """Hide all of COLMAP's messages but fatal ones inside the block, unless they are to be shown."""
    before = pycolmap.logging.minloglevel
    if not shown:
        pycolmap.logging.minloglevel = pycolmap.logging.FATAL
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
