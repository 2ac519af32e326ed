"""Who hears how far a pipeline is, and what it has to say: nobody, a terminal, or a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: such as ``match``.
        done: of ``total``.
        total: None where nobody knows.
        unit: what is counted, such as ``pair``.
    """

    stage: str
    done: float
    total: float | None
    unit: str


class Reporter:
    """Hears everything and tells nobody.

    Args:
        progress: whether bars are drawn in the terminal.
    """

    def __init__(self, progress: bool = False) -> None:
        self.progress = progress

    def note(self, text: str) -> None:
        """Take something that was chosen for the user, or that could be chosen better."""

    def say(self, text: str) -> None:
        """Take a line about the current work; it may be ignored."""

    def advanced(self, progress: Progress) -> None:
        """Take how far a stage is; called several times a second at most."""


QUIET = Reporter()


class Terminal(Reporter):
    """Prints notes always, and lines and bars where ``progress`` asks for them."""

    def note(self, text: str) -> None:
        """Print it."""
        print(f"note: {text}", flush=True)

    def say(self, text: str) -> None:
        """Print it beside the bars."""
        if self.progress:
            print(text, flush=True)


class Callback(Reporter):
    """Hands everything to a function: texts, and :class:`Progress`."""

    def __init__(self, call: Callable[[str | Progress], None]) -> None:
        super().__init__()
        self._call = call

    def note(self, text: str) -> None:
        """Hand it on."""
        self._call(text)

    def say(self, text: str) -> None:
        """Hand it on."""
        self._call(text)

    def advanced(self, progress: Progress) -> None:
        """Hand it on."""
        self._call(progress)


_current: ContextVar[Reporter] = ContextVar("reporter", default=QUIET)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[Reporter]:
    """Let all bars that are made in the block tell this reporter how far they are."""
    token = _current.set(reporter)
    try:
        yield reporter
    finally:
        _current.reset(token)


def listener() -> Reporter:
    """The reporter of the pipeline that is at work."""
    return _current.get()
