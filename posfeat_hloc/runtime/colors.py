"""Colors of messages and summaries, on a terminal only; the environment variable NO_COLOR switches them off."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from typing import TextIO

_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}
_WORDS = {"error:": "red", "note:": "yellow", "fail": "red", "warn": "yellow", "ok": "green"}
_PROBLEMS = re.compile(
    r"^(  (?:likely cause|focal lengths|one side|could not be read|not in this model|not localized|not registered|note"
    r"|skipped|damaged)\b)",
    re.MULTILINE,
)
"""Titles in a summary that deserve attention."""


def colored(text: str, stream: TextIO, complete: bool = True) -> str:
    """A summary: its first line in green, or red where something is missing, and problems in yellow."""
    if not enabled(stream):
        return text
    lines = text.split("\n")
    head = next((i for i, line in enumerate(lines) if line), None)
    if head is not None:
        lines[head] = _painted(lines[head], "green" if complete else "red", "bold")
    return _PROBLEMS.sub(lambda found: _painted(found[1], "yellow"), "\n".join(lines))


def label(word: str, stream: TextIO) -> str:
    """``error:``, ``note:`` or a status of ``doctor`` in its color."""
    color = _WORDS.get(word.strip())
    return _painted(word, color, "bold") if color and enabled(stream) else word


def enabled(stream: TextIO) -> bool:
    """Whether a stream shows colors (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return _console_ready()


@cache
def _console_ready() -> bool:
    """Windows' console has to be told that escape sequences are colors; colorama comes with tqdm there."""
    if sys.platform == "win32":
        try:
            from colorama import just_fix_windows_console
        except ImportError:
            return False
        just_fix_windows_console()
    return True


def _painted(text: str, *styles: str) -> str:
    return f"\033[{';'.join(_CODES[style] for style in styles)}m{text}\033[0m"
