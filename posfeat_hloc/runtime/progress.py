"""Progress in the terminal, one line per stage with the time left, and times of stages."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from posfeat_hloc.runtime.reporter import Progress, listener

WORTH_TELLING = 60.0
"""In a log file, the time left is printed once, after the first tenth, if it is at least this many seconds."""

LOG_INTERVAL = 10.0
"""Minimum seconds between two updates of a bar in a log file."""

_FORM = "{desc:<11}|{bar}| {n_fmt}/{total_fmt} {units}, {rest}{postfix}"
_FORM_WITHOUT_TOTAL = "{desc:<11}{n_fmt} {units}, {elapsed}{postfix}"
_FORM_OF_TIME = "{desc:<11}{elapsed}"


class Bar(tqdm):  # type: ignore[misc]
    """tqdm's bar in one line: stage, bar, count and time left, or at its end the time taken.

    It also informs the reporter of the current pipeline, whether it is shown or not.
    """

    _told = False

    def __init__(
        self, iterable: Any = None, desc: str = "", total: float | None = None, unit: str = "it", **options: Any
    ) -> None:
        self.on_terminal = getattr(options.get("file") or sys.stderr, "isatty", lambda: False)()
        options.setdefault("bar_format", _FORM if total or hasattr(iterable, "__len__") else _FORM_WITHOUT_TOTAL)
        options.setdefault("mininterval", 0.1 if self.on_terminal else LOG_INTERVAL)
        super().__init__(iterable, desc, total, unit=unit, **options)
        self._reporter, self._what = listener(), (desc, unit)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm fills in, with ``units`` and ``rest`` for the forms above."""
        found: dict[str, Any] = super().format_dict
        n, total, elapsed, unit = found["n"], found["total"], found["elapsed"], found["unit"]
        found["units"] = {"B": "B", "query": "queries"}.get(unit, f"{unit}s")
        rate = found["rate"] or ((n - found["initial"]) / elapsed if elapsed else 0)
        if total and n >= total:
            found["rest"] = _clock(elapsed)
        else:
            found["rest"] = f"{_clock((total - n) / rate)} left" if total and rate else "..."
        return found

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
        if not self._told and not self.on_terminal and not self.disable and self.total and 10 * self.n >= self.total:
            self._told = True
            left = (time.time() - self.start_t) / self.n * (self.total - self.n)
            if left >= WORTH_TELLING:
                what = self.desc.removesuffix(": ")
                self.write(f"{what}: {self.n:g} of {self.total:g} done, about {span(left)} left")
        return shown


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else span(seconds)


def span(seconds: float) -> str:
    """A duration in words: ``3 min``, ``2 h 10 min``, ``4 days``."""
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
    """A bar for one long call without callbacks: elapsed time, and what ``count`` returns; none for a short call.

    Args:
        desc: what is done.
        progress: False shows nothing.
        total: what ``count`` ends at.
        count: is called from another thread every ``interval`` seconds; its errors are ignored.
        unit: of ``total``.
        interval: in seconds; nothing is shown before the first.
    """
    if not progress:
        yield
        return
    done = threading.Event()
    form = {} if count is not None else {"bar_format": _FORM_OF_TIME}
    with Bar(total=total, desc=desc, unit=unit, delay=interval, mininterval=0, **form) as bar:

        def show() -> None:
            while not done.wait(interval if bar.on_terminal else max(interval, LOG_INTERVAL)):
                try:
                    bar.update(0 if count is None else max(0, count() - bar.n))
                except Exception:  # the database may be locked
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
