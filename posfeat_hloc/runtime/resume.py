"""Resume keys: stages that write one file or folder are skipped if their inputs have not changed."""

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
