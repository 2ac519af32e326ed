"""One process at a time: lock files beside what they protect, on every system."""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout


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
