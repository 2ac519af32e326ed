"""Where progress and notes of a pipeline go: nowhere, to the terminal, or to a function; lines of summaries."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from posfeat_hloc.runtime.colors import label


@dataclass(frozen=True)
class Progress:
    """Progress of a stage.

    Attributes:
        stage: such as ``match``.
        done: of ``total``.
        total: None where it is unknown.
        unit: what is counted, such as ``pair``.
    """

    stage: str
    done: float
    total: float | None
    unit: str


class Reporter:
    """Ignores everything.

    Args:
        progress: whether bars are drawn in the terminal.
    """

    def __init__(self, progress: bool = False) -> None:
        self.progress = progress

    def note(self, text: str) -> None:
        """Called with a choice that was made for the user, or that could be made better."""

    def say(self, text: str) -> None:
        """Called with a line about the current work."""

    def advanced(self, progress: Progress) -> None:
        """Called with the progress of a stage, at most several times a second."""


QUIET = Reporter()


class Terminal(Reporter):
    """Prints notes always, and lines and bars where ``progress`` asks for them."""

    def note(self, text: str) -> None:
        """Print it."""
        print(f"{label('note:', sys.stdout)} {text}", flush=True)

    def say(self, text: str) -> None:
        """Print it beside the bars."""
        if self.progress:
            print(text, flush=True)


class Callback(Reporter):
    """Calls a function with every text and :class:`Progress`."""

    def __init__(self, call: Callable[[str | Progress], None]) -> None:
        super().__init__()
        self._call = call

    def note(self, text: str) -> None:
        """Call the function."""
        self._call(text)

    def say(self, text: str) -> None:
        """Call the function."""
        self._call(text)

    def advanced(self, progress: Progress) -> None:
        """Call the function."""
        self._call(progress)


_current: ContextVar[Reporter] = ContextVar("reporter", default=QUIET)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[Reporter]:
    """All bars that are created in the block inform this reporter."""
    token = _current.set(reporter)
    try:
        yield reporter
    finally:
        _current.reset(token)


def listener() -> Reporter:
    """The reporter of the current pipeline."""
    return _current.get()


_FEW = 3
"""Reasons that are printed one by one."""

_WIDTH = 80


def entry(title: str, text: str) -> list[str]:
    """A line of a summary, continued below its text where it is too long; paths and flags are not broken."""
    return _wrapped(text, f"  {title:<18}  ", 22)


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


def listing(title: str, items: dict[str, str]) -> list[str]:
    """A few names with their reasons, or the reasons of many with the number of names."""
    if not items:
        return []
    texts = [f"{name}: {reason}" for name, reason in items.items()] if len(items) <= _FEW else [counted(items)]
    return [f"  {title} ({len(items)})", *(line for text in texts for line in _wrapped(text, "    ", 6))]


def _wrapped(text: str, first: str, indent: int) -> list[str]:
    """Lines of 80 columns; ``--flag value`` stays together."""
    lines = textwrap.wrap(
        re.sub(r"(--[a-z-]+) (?=\w)", "\\1\0", text), _WIDTH, initial_indent=first, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in lines]
