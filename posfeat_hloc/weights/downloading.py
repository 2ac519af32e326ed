"""Files from the web: with a progress bar, and an interrupted download resumes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from posfeat_hloc.runtime.output import HeldLock
from posfeat_hloc.runtime.progress import Bar

TIMEOUT = 30.0
"""Seconds without an answer after which a connection counts as broken."""

ATTEMPTS = 4
"""Connections in a row that may break."""

_BLOCK = 1 << 16
_BROKEN = (HTTPException, ConnectionError, TimeoutError, EOFError)


def download_file(url: str, path: Path, progress: bool = True) -> bool:
    """Fetch ``url`` into ``path``, which appears only when it is complete.

    What has arrived lies in ``<path>.partial``. A server that knows ranges is asked for the rest of it, also in a later
    run; one that does not sends the file from its beginning.

    Returns:
        whether the beginning was there from an earlier call; if the file has changed since, the two parts do not fit,
        which is for the caller to find out.

    Raises:
        OSError: no connection, an answer other than the file, or no space.
        HTTPException: the server does not speak HTTP.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    resumed = partial.exists()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(url, partial, path.name, progress)
            break
        except _BROKEN as error:
            if attempt == ATTEMPTS:
                size = partial.stat().st_size if partial.exists() else 0
                reason = str(error) or type(error).__name__
                raise ConnectionError(
                    f"the connection was lost {ATTEMPTS} times, {size:,} bytes were received; the next attempt resumes "
                    f"there; the last reason: {reason}"
                ) from error
    os.replace(partial, path)
    return resumed


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into ``folder``, and keep others waiting."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = HeldLock(folder / ".lock", wait=True)
    try:
        yield
    finally:
        lock.release()


def _fetch_rest(url: str, partial: Path, name: str, progress: bool) -> None:
    response, start = _continue(url, partial.stat().st_size if partial.exists() else 0)
    with response:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            open(partial, "r+b" if start else "wb") as file,
            Bar(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=not progress) as bar,
        ):
            file.seek(start)
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
            size = file.tell()
            file.truncate()
    if total is not None and size < total:
        raise IncompleteRead(b"", total - size)


def _continue(url: str, have: int) -> tuple[Any, int]:
    """An answer with the bytes of a file from ``have`` on if the server can do that, and the byte it begins at."""
    if have:
        try:
            response = _open(url, have)
        except HTTPError as error:
            if error.code != 416:  # 416: beyond the end, so what is here is complete, or of another file
                raise
        else:
            if response.status != 206:
                return response, 0
            if (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                return response, have
            response.close()
    return _open(url), 0


def _open(url: str, start: int = 0) -> Any:
    headers = {"User-Agent": "posfeat-hloc", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urlopen(Request(url, headers=headers), timeout=TIMEOUT)
