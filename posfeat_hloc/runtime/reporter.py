"""What a pipeline tells, and whom: nobody, a terminal, or a function of the caller's; lists of files with reasons."""

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


_FEW = 3
"""Reasons that are told one by one."""


def counted(reasons: dict[str, str]) -> str:
    """Why several files cannot be used: each kind of reason once, with the number of its files and one of them.

    Args:
        reasons: name -> a sentence, which may begin with the path of the file.
    """
    kinds: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        path, colon, rest = reason.partition(": ")
        known = colon and path.replace("\\", "/").endswith(name)
        kinds.setdefault((rest if known else reason).replace(name, "..."), []).append(name)
    if len(reasons) <= _FEW:
        return "; ".join(reasons.values())
    ranked = sorted(kinds.items(), key=lambda item: -len(item[1]))
    told = [f"{len(names)} times: {reason} (such as {names[0]})" for reason, names in ranked[:_FEW]]
    return "; ".join([*told, *([f"and {len(ranked) - _FEW} more reasons"] if len(ranked) > _FEW else [])])


def listing(title: str, items: dict[str, str], limit: int = 10) -> list[str]:
    """The first of several names with what is to be said of them."""
    if not items:
        return []
    lines = [f"  {title} ({len(items)})"]
    lines += [f"    {name}: {reason}" for name, reason in list(items.items())[:limit]]
    if len(items) > limit:
        lines.append(f"    ... and {len(items) - limit} more; {counted(items)}")
    return lines
