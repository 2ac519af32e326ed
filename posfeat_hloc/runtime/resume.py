"""What an interrupted run leaves: keys of finished stages, and files of one JSON object a line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from posfeat_hloc.runtime.output import write_atomically


class CacheKey:
    """Remembers from which inputs a file or folder was made, in ``<name>.key`` beside it.

    ``is_valid`` is true when it was made from the same inputs; otherwise the key is written once the block has
    ended without an error.

    Args:
        path: of the file or folder.
        inputs: all that it depends on, as JSON holds it.
    """

    def __init__(self, path: Path, inputs: Any) -> None:
        self.path = path
        self.key = hash_of(inputs)
        self.file = path.with_name(path.name + ".key")
        self.is_valid = path.exists() and self.file.exists() and self.file.read_bytes() == self.key.encode()

    def __enter__(self) -> CacheKey:
        if not self.is_valid:
            self.file.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self.is_valid:
            write_atomically(self.file, self.key)


def hash_of(inputs: Any) -> str:
    """Changes with any of the inputs, which JSON can hold."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


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
