"""How every command ends: one line for what a user can fix, and an exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from posfeat_hloc.errors import PosfeatError


def exit_code(action: Callable[[], bool], output: Path | None, resume: str) -> int:
    """Run a command and say how it ended.

    Args:
        action: returns whether there is a result.
        output: named for errors of the system that name no file; None when nothing is written.
        resume: how to resume after Ctrl-C.

    Returns:
        0 with a result, 1 without one or after an error, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # paths may hold bytes that are not UTF-8
    try:
        return 0 if action() else 1
    except PosfeatError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        where = error.filename or output
        print(f"error: {f'{where}: ' if where else ''}{error.strerror or error}", file=sys.stderr)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; torch itself may be what is missing
            raise
        print(f"error: out of memory ({error}); use smaller images or batches", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nstopped; {resume}", file=sys.stderr)
        return 130
    return 1
