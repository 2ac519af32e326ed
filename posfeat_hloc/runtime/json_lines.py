"""Files of one JSON object a line, which a killed run leaves whole but for their last line."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from posfeat_hloc.runtime.output import write_atomically


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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
