"""What stores have in common: opening, the configuration they belong to, commits, groups by image names."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.confs import current_names
from posfeat_hloc.errors import StoreError
from posfeat_hloc.stores.journal import JournaledFile, recover


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block.

    HDF5 calls back into Python to read and write a journaled file. A KeyboardInterrupt raised there is swallowed, and
    what was to be written may be lost with it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[-1])


CONFIGURATION = "posfeat_hloc"
"""Attribute of the root group: the configuration that all of the file was made with, as JSON."""

CHECKSUM = "checksum"
"""Attribute of a group: :func:`content_digest` of its datasets, where the group has no other digest of them."""


class Hdf5Store:
    """An HDF5 file opened for reading, or for writing in commits.

    Args:
        path: of the file.
        configuration: None opens an existing file (ours or hloc's) for reading. A dict opens it for writing;
            it is recorded in a new file and must equal the record in an existing one.

    Raises:
        StoreError: missing, damaged, not HDF5, locked by another writer, or made with another configuration.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._journaled: JournaledFile | None = None
        if configuration is None:
            if not self.path.exists():
                raise StoreError(f"{self.path}: no such file; extract or match first")
            recover(self.path)
            self.file = self._open(self.path, "r")
            return
        self._journaled = JournaledFile(self.path)
        try:
            fresh = self.path.stat().st_size == 0
            self.file = self._open(self._journaled, "w" if fresh else "r+")
            wanted = json.dumps(configuration, sort_keys=True)
            if fresh:
                with self._damage("its configuration", "written"):
                    write_text(self.file, CONFIGURATION, wanted)
                self.commit()
            else:
                with self._damage("its configuration"):
                    self._check_configuration(self._recorded(), wanted)
        except BaseException:
            self.close()
            raise

    def _open(self, file: Path | JournaledFile, mode: str) -> h5py.File:
        try:
            with self._uninterrupted():
                return h5py.File(file, mode)
        except BlockingIOError as error:
            raise StoreError(f"{self.path}: in use by another process; wait for it") from error
        except OSError as error:
            raise StoreError(f"{self.path}: not an HDF5 file, or damaged ({error}); delete it and run again") from error
        except (RuntimeError, ValueError, KeyError) as error:  # what h5py makes of some damaged headers
            raise StoreError(f"{self.path}: damaged ({error}); delete it and run again") from error

    def _check_configuration(self, found: str | None, wanted: str) -> None:
        if found is None:
            raise StoreError(
                f"{self.path}: was not written by posfeat_hloc, so nothing is added to it; choose another output"
            )
        found = json.dumps(current_names(json.loads(found)), sort_keys=True)
        if found != wanted:
            raise StoreError(
                f"{self.path}: belongs to another configuration ({_difference(found, wanted)}); "
                "choose another output folder or delete the file"
            )

    @property
    def configuration(self) -> dict[str, Any] | None:
        """The configuration recorded in the file; None for files that other programs wrote."""
        with self._damage("its configuration"):
            found = self._recorded()
            return None if found is None else dict(current_names(json.loads(found)))

    def _recorded(self) -> str | None:
        return read_text(self.file, CONFIGURATION)

    @contextmanager
    def _damage(self, what: str, done: str = "read") -> Iterator[None]:
        """Say of which file and what h5py complains while it reads a damaged file, or writes to it."""
        try:
            with self._uninterrupted():
                yield
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.path}: damaged, {what} cannot be {done} ({error}); posfeat-hloc check --repair "
                "keeps what is intact, or delete it; then run again"
            ) from error

    def commit(self) -> None:
        """Make all pending writes permanent."""
        with self._uninterrupted():
            with self._damage("what was added", "written"):
                self.file.flush()
            if self._journaled is not None:
                self._journaled.commit()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        with self._uninterrupted():
            if hasattr(self, "file"):
                with contextlib.suppress(RuntimeError, OSError):  # of a damaged file; all that counts is committed
                    self.file.close()
            if self._journaled is not None:
                self._journaled.close()

    def _uninterrupted(self) -> AbstractContextManager[None]:
        """Only a journaled file is one that HDF5 calls Python for."""
        return nullcontext() if self._journaled is None else interrupts_deferred()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_text(item: h5py.Group, attribute: str, *texts: str) -> None:
    """Store one text, or a list of them.

    As strings of fixed length: the heap that holds others sends HDF5 into an endless loop when it is damaged.
    """
    encoded = [text.encode() or b"\0" for text in texts]
    item.attrs[attribute] = np.bytes_(encoded[0]) if len(encoded) == 1 else np.array(encoded)


def read_text(item: h5py.Group, attribute: str) -> str | None:
    """A text that :func:`write_text` or an earlier version stored; None where there is none."""
    found = item.attrs.get(attribute)
    if isinstance(found, bytes):
        return found.decode()
    return found if isinstance(found, str) else None


def read_texts(item: h5py.Group, attribute: str) -> list[str] | None:
    """A list of texts that :func:`write_text` or an earlier version stored; None where there is none."""
    found = item.attrs.get(attribute)
    if found is None:
        return None
    return [text.decode() if isinstance(text, bytes) else str(text) for text in np.atleast_1d(found).tolist()]


def content_digest(*arrays: NDArray[np.generic]) -> str:
    """Identifies the content of arrays, 24 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=12)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _difference(found: str, wanted: str) -> str:
    """Name the first few settings that differ, as ``name: found -> wanted``."""
    a, b = _flatten(json.loads(found)), _flatten(json.loads(wanted))
    pairs = {key: (a.get(key, "unset"), b.get(key, "unset")) for key in sorted(a.keys() | b.keys())}
    different = [f"{key}: {there} there, {now} now" for key, (there, now) in pairs.items() if there != now]
    return ", ".join(different[:3])


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key in value for k, v in _flatten(value[key], f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


class ImageStore(Hdf5Store):
    """A file with a group ``<image name>`` for each image; a name with ``/`` is nested groups."""

    def is_current(self, name: str, source: str) -> bool:
        """Whether what belongs to this very image file is stored, and complete."""
        with self._damage(f"the source of {name!r}"):
            return name in self and read_text(self.file[name], "source") == source

    def names(self) -> list[str]:
        """Names of all complete images, sorted."""
        with self._damage("the list of images"):
            return sorted(self._walk(self.file, ""))

    def __contains__(self, name: str) -> bool:
        with self._damage(f"the group of {name!r}"):
            item = self.file.get(name)
            return isinstance(item, h5py.Group) and self._is_complete(item)

    def _walk(self, group: h5py.Group, prefix: str) -> Iterator[str]:
        for key, item in group.items():
            if isinstance(item, h5py.Group):
                if self._is_complete(item):
                    yield prefix + key
                yield from self._walk(item, f"{prefix}{key}/")

    @staticmethod
    def _is_complete(group: h5py.Group) -> bool:
        """Whether a group holds all of an image; groups on the way to one do not."""
        raise NotImplementedError
