"""Progress that a user sees: bars that say how long the rest takes, signs of life, and times of stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from posfeat_hloc.runtime.reporter import Progress, listener

WORTH_TELLING = 60.0
"""Seconds left at the first tenth from which on they are told in a line of their own."""


class Bar(tqdm):  # type: ignore[misc]
    """tqdm's bar; after the first tenth it writes a line with the time that the rest takes, where it is long.

    Whether it is shown or not, it tells the reporter of the pipeline that is at work.
    """

    _told = False

    def __init__(
        self, iterable: Any = None, desc: str = "", total: float | None = None, unit: str = "it", **options: Any
    ) -> None:
        super().__init__(iterable, desc, total, unit=unit, **options)
        self._reporter, self._what = listener(), (desc, unit)

    def __iter__(self) -> Iterator[Any]:
        if not self.disable:
            yield from super().__iter__()
            return
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more."""
        if self.disable:
            self.n += n or 0
        shown = super().update(n)
        stage, unit = self._what
        self._reporter.advanced(Progress(stage, self.n, self.total, unit))
        if not self._told and not self.disable and self.total and 10 * self.n >= self.total:
            self._told = True
            left = (time.time() - self.start_t) / self.n * (self.total - self.n)
            if left >= WORTH_TELLING:
                what = self.desc.removesuffix(": ")
                self.write(f"{what}: {self.n:g} of {self.total:g} done, about {span(left)} left")
        return shown


def span(seconds: float) -> str:
    """A time to wait, as people say it: ``3 min``, ``2 h 10 min``, ``4 days``."""
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes / 60
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{round(hours / 24)} days"


@contextmanager
def waiting(
    desc: str,
    progress: bool = True,
    total: int | None = None,
    count: Callable[[], int] | None = None,
    unit: str = "pair",
    interval: float = 1.0,
) -> Iterator[None]:
    """A bar for one long call that says nothing: seconds, and what ``count`` finds meanwhile; none for a short call.

    Args:
        desc: what is done.
        progress: False shows nothing.
        total: what ``count`` ends at.
        count: is called from another thread every ``interval`` seconds; errors of it are left alone.
        unit: of ``total``.
        interval: in seconds; nothing is shown before the first.
    """
    if not progress:
        yield
        return
    done = threading.Event()
    form = None if count is not None else "{desc}: {elapsed}"
    with Bar(total=total, desc=desc, unit=unit, bar_format=form, delay=interval) as bar:

        def show() -> None:
            while not done.wait(interval):
                try:
                    bar.update(0 if count is None else max(0, count() - bar.n))
                except Exception:  # the library may be at work on what is counted
                    bar.update(0)
                bar.refresh()

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
            if total is not None and bar.n < total:
                done.set()
                thread.join()
                bar.update(total - bar.n)
        finally:
            done.set()
            thread.join()


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a block to ``seconds[stage]``, also when the block ends with an error."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
