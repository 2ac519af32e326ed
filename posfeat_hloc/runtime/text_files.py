"""Text files line by line: lists that users write, and JSON Lines, of which a killed run loses the last line only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from posfeat_hloc.errors import ConfigurationError, PosfeatError
from posfeat_hloc.runtime.output import write_atomically


def numbered_lines(path: Path, what: str, error: type[PosfeatError] = ConfigurationError) -> list[tuple[int, str]]:
    """Number and text of each line of a UTF-8 file that is not empty.

    Args:
        path: of the file.
        what: it should be, for the message.
        error: what is raised where it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read as {what} ({cause})") from cause
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def complete_lines(path: Path) -> list[str]:
    """The lines that were written to their end, without the end of a line.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read, or is no text.
    """
    return [line.decode() for line in path.read_bytes().split(b"\n")[:-1]]


def write_lines(path: Path, lines: list[str]) -> None:
    """Replace the file by these lines, at once or not at all."""
    write_atomically(path, "".join(f"{line}\n" for line in lines))


class JsonLines:
    """Adds records to a file; a line that a killed run left unfinished is dropped first.

    Args:
        path: of the file, made where it is missing, as is its folder.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            write_lines(path, complete_lines(path))
        self._file = path.open("a", encoding="utf-8")

    def add(self, record: dict[str, Any]) -> str:
        """Write a record, which stays when the process is killed afterwards; returns its line."""
        line = json.dumps(record, ensure_ascii=False)
        self._file.write(line + "\n")
        self._file.flush()
        return line

    def close(self) -> None:
        """Stop writing."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
