"""Lists of image pairs, in memory and in hloc's text files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.output import write_atomically
from posfeat_hloc.runtime.text_files import numbered_lines

Pair = tuple[str, str]


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Each unordered pair once, in the order of its first appearance; an image with itself is dropped."""
    seen: dict[Pair, Pair] = {}
    for pair in pairs:
        if pair[0] != pair[1]:
            seen.setdefault(pair if pair[0] < pair[1] else (pair[1], pair[0]), pair)
    return list(seen.values())


def read_pairs(
    path: Path, names: Sequence[str] | None = None, reference_names: Sequence[str] | None = None
) -> list[Pair]:
    """Read a text file with two image names a line.

    Names may contain spaces: a line is split where both halves are among ``names``. Empty lines are left out, and lines
    that start with ``#``, unless they name two images of ``names``.

    Args:
        path: of the file.
        names: all images there are; a pair with any other is an error.
        reference_names: images of a second collection, which the second name of each line is taken from; a pair may
            then join two images of the same name.

    Raises:
        ConfigurationError: no such file, no pairs in it, or a line that does not name two images.
    """
    known = None if names is None else set(names)
    known1 = known if reference_names is None else set(reference_names)
    pairs = []
    for number, line in numbered_lines(Path(path), "a list of pairs"):
        if line.startswith("#") and known is None:
            continue
        pair = _split(line, known, known1)
        if pair is None and line.startswith("#"):
            continue
        if pair is None:
            raise ConfigurationError(f"{path}, line {number}: does not name two images of this collection: {line!r}")
        pairs.append(pair)
    if not pairs:
        raise ConfigurationError(f"{path}: holds no pairs")
    return unique_pairs(pairs) if reference_names is None else list(dict.fromkeys(pairs))


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write two names a line, as hloc reads them."""
    write_atomically(path, "".join(f"{a} {b}\n" for a, b in pairs))


def _split(line: str, known0: set[str] | None, known1: set[str] | None) -> Pair | None:
    tokens = line.split()
    if known0 is None or known1 is None:
        return (tokens[0], tokens[1]) if len(tokens) == 2 else None
    text = line.strip("\r\n")
    for position, character in enumerate(text):
        if character in " \t":
            first, second = text[:position].strip(), text[position:].strip()
            if first in known0 and second in known1:
                return first, second
    return None
