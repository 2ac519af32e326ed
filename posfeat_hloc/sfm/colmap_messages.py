"""COLMAP's own messages on the terminal; in a module of its own, because everything that calls COLMAP uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pycolmap


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
