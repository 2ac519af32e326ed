"""Everything that reads a file of the user's, each with valid files to start from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Files = dict[str, bytes]
"""Name, relative to a folder -> content."""


@dataclass(frozen=True)
class Reader:
    """One way in.

    Attributes:
        name: for reports.
        seeds: valid inputs, each a few files in a folder.
        read: given the folder; may return anything, or raise a PosfeatError.
        beside: names of files that are there but never damaged.
    """

    name: str
    seeds: list[Files]
    read: Callable[[Path], object]
    beside: tuple[str, ...] = ()

    def is_input(self, name: str) -> bool:
        """Whether a file is one that gets damaged."""
        return name not in self.beside


def files_of(write: Callable[[Path], object]) -> Files:
    """What a function writes into a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def all_readers() -> dict[str, Reader]:
    """Reader name -> reader; makes their valid files."""
    from tests.fuzzing import image_readers, model_readers, store_readers, text_readers, weight_readers

    modules = (image_readers, store_readers, text_readers, model_readers, weight_readers)
    return {reader.name: reader for module in modules for reader in module.readers()}
