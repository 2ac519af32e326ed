"""What a command prints at its end: text for people, or with ``--json`` one JSON object for scripts."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc.runtime.colors import colored


@dataclass(frozen=True)
class Summary:
    """The result of a command.

    Attributes:
        text: for the terminal, at most 80 columns where paths allow it; empty where everything has been printed.
        data: the same for scripts.
        complete: False if something that was asked for does not exist; the exit code is 1 then.
    """

    text: str
    data: Mapping[str, Any]
    complete: bool = True


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``, for a command or each of its subcommands."""
    subcommands = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for choices in subcommands:
        for command in choices.values():
            add_json(command)
    if not subcommands:
        parser.add_argument("--json", action="store_true", help="print the summary as JSON, everything else to stderr")


def print_summary(run: Callable[[], Summary], as_json: bool) -> bool:
    """Run a command and print its summary; returns whether it is complete."""
    with _stdout_for_json(as_json):
        summary = run()
    if as_json:
        print(json.dumps(plain(summary.data), indent=2, ensure_ascii=False))
    elif summary.text:
        print(colored(summary.text, sys.stdout, summary.complete))
    return summary.complete


def recorded(output: Path) -> dict[str, Any]:
    """``summary.json`` of an output folder, and the folder."""
    found: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return {**found, "output": str(output)}


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses as objects, paths as text, numbers that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)


@contextlib.contextmanager
def _stdout_for_json(as_json: bool) -> Iterator[None]:
    """Notes and lists go to stderr while stdout is kept for one JSON object."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
