"""A file that changes only by commits, so that a killed process never leaves it half written.

HDF5 itself is not crash-safe: a process killed while the library flushes may lose the whole file. Here the library
writes into memory; :meth:`JournaledFile.commit` puts all pending writes into a journal beside the file, then
into the file, then removes the journal. Whoever opens the file next completes a finished journal and drops an
unfinished one.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
from pathlib import Path

from posfeat_hloc.errors import StoreError
from posfeat_hloc.runtime.output import HeldLock, LockedError, writing_remedy

try:
    import fcntl
except ImportError:  # Windows; HDF5, which locks the files that it reads by flock, locks none there
    fcntl = None  # type: ignore[assignment]

_LOCKS_NOTHING = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What network file systems without locks answer; two writers are not distinguished there."""

_MAGIC = b"PFJOURN1"
_HEADER = struct.Struct("<8sQQ32s")  # magic, length of the body, final size of the file, SHA-256 of the body
_ENTRY = struct.Struct("<QQ")  # offset, length

_LARGEST_COMMIT = 1 << 36  # all of it is in memory


class JournaledFile(io.RawIOBase):
    """A seekable binary file whose writes reach the disk only in :meth:`commit`.

    Meant to be handed to ``h5py.File``. Opening takes an exclusive lock.

    Args:
        path: created when missing.

    Raises:
        StoreError: another process writes this file, or it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.journal = journal_path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = HeldLock(lock_path(path))
        except LockedError as error:
            raise _in_use(path) from error
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            exists = path.exists()
            self._file = open(path, "r+b" if exists else "x+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            self._lock.release()
            raise _unusable(path, error) from error
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _LOCKS_NOTHING:
                    self._file.close()
                    self._lock.release()
                    raise _in_use(path) from error
        try:
            if not exists:
                self.journal.unlink(missing_ok=True)  # it belonged to a file that was deleted
            _replay(self.journal, self._file)
        except OSError as error:
            self._file.close()
            self._lock.release()
            raise StoreError(
                f"{path}: the last changes cannot be completed ({error.strerror}); {writing_remedy(path, error)}"
            ) from error
        self._size = self._size_on_disk()
        self._position = 0
        self._pending: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        if not count:  # a damaged file sends HDF5 to places that no file has
            return 0
        start, end = self._position, self._position + count
        data = bytearray(_read_at(self._file, count, start))
        data.extend(bytes(count - len(data)))  # a part that exists only in pending writes
        for offset, chunk in self._pending:
            low, high = max(start, offset), min(end, offset + len(chunk))
            if low < high:
                data[low - start : high - start] = chunk[low - offset : high - offset]
        view[:count] = data
        self._position = end
        return count

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        chunk = bytes(data)
        if chunk:
            self._grow(self._position)
            self._pending.append((self._position, chunk))
            self._position += len(chunk)
            self._size = max(self._size, self._position)
        return len(chunk)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self._grow(size)
        self._size = size
        self._pending = [(o, c[: size - o]) for o, c in self._pending if o < size]
        return size

    def _grow(self, size: int) -> None:
        """Extend with zeros, also where the disk still holds bytes that were truncated away."""
        if size > self._size_on_disk() + _LARGEST_COMMIT:
            raise OSError(errno.EFBIG, f"the file is damaged: it claims to end at byte {size}")
        stale = min(size, self._size_on_disk()) - self._size
        if stale > 0:
            self._pending.append((self._size, bytes(stale)))
        self._size = max(self._size, size)

    def _size_on_disk(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def commit(self) -> None:
        """Make all writes since the last commit permanent, all or none of them.

        Raises:
            StoreError: no space left, or the disk failed; the file is as it was at the last commit. When the disk
                failed in the middle of the file itself, the journal stays and the next to open it completes it.
        """
        if not self._pending and self._size == self._size_on_disk():
            return
        body = b"".join(_ENTRY.pack(offset, len(chunk)) + chunk for offset, chunk in self._pending)
        header = _HEADER.pack(_MAGIC, len(body), self._size, hashlib.sha256(body).digest())
        try:
            _replay(self.journal, self._file)  # of a commit that failed half-way
            self._write_journal(header, body)
            _replay(self.journal, self._file)
        except OSError as error:
            remedy = writing_remedy(self.path, error)
            raise StoreError(f"{self.path}: cannot be written ({error.strerror}); {remedy}") from error
        self._pending = []

    def _write_journal(self, header: bytes, body: bytes) -> None:
        """Write a complete journal and get the space for its replay, or leave nothing behind."""
        size = self._size_on_disk()
        try:
            with self.journal.open("wb") as journal:
                journal.write(header)
                journal.write(body)
            _write_all(self._file, memoryview(bytes(max(0, self._size - size))), size)
        except OSError:
            self._file.truncate(size)
            self.journal.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Close without committing: pending writes are lost."""
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
            self._lock.release()
        super().close()


def journal_path(path: Path) -> Path:
    """The journal of a file."""
    return path.with_name(path.name + ".journal")


def lock_path(path: Path) -> Path:
    """The lock file of a file that is written; on Windows a locked file could not be read."""
    return path.with_name(path.name + ".lock")


def recover(path: Path) -> None:
    """Complete or drop what a killed writer left beside ``path``, before it is read.

    Raises:
        StoreError: another process writes the file.
    """
    if lock_path(path).exists():
        try:
            HeldLock(lock_path(path)).release()
        except LockedError as error:
            raise _in_use(path) from error
    if journal_path(path).exists():
        JournaledFile(path).close()


def _replay(journal: Path, file: io.FileIO) -> None:
    """Apply a complete journal, then remove it; an incomplete one is only removed."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    if len(content) >= _HEADER.size:
        magic, length, size, digest = _HEADER.unpack_from(content)
        body = memoryview(content)[_HEADER.size :]
        if magic == _MAGIC and len(body) == length and hashlib.sha256(body).digest() == digest:
            position = 0
            while position < length:
                offset, count = _ENTRY.unpack_from(body, position)
                position += _ENTRY.size
                _write_all(file, body[position : position + count], offset)
                position += count
            file.truncate(size)
    journal.unlink()


def _write_all(file: io.FileIO, data: memoryview, offset: int) -> None:
    while data:
        written = _write_at(file, data, offset)
        data, offset = data[written:], offset + written


def _write_at(file: io.FileIO, data: memoryview, offset: int) -> int:
    """Like ``os.pwrite``, which Windows does not have; returns how much was written."""
    file.seek(offset)
    return file.write(data) or 0


def _read_at(file: io.FileIO, count: int, offset: int) -> bytes:
    """Like ``os.pread``."""
    file.seek(offset)
    return file.read(count) or b""


def _in_use(path: Path) -> StoreError:
    return StoreError(f"{path}: in use by another process; wait for it or choose another output")


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be opened for writing ({error.strerror}); choose another output")
