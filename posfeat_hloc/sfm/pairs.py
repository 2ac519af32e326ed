"""Which images are matched with which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.runtime.output import write_atomically

Pair = tuple[str, str]


def exhaustive_pairs(names: Iterable[str]) -> list[Pair]:
    """Every image with every other: n (n - 1) / 2 pairs."""
    return list(combinations(sorted(set(names)), 2))


def sequences_of(names: Iterable[str]) -> list[list[str]]:
    """Images in the natural order of their names (``frame_2`` before ``frame_10``), one list for each camera.

    Cameras that took pictures side by side have a folder each, and the same names in all of them. Folders without
    common names follow one another, and are one sequence.
    """
    order = sorted(set(names), key=natural_order)
    folders: dict[str, list[str]] = {}
    for name in order:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    moments = [{_moment(name) for name in members} for members in folders.values()]
    shared = sum(len(moment) for moment in moments) - len(set().union(*moments)) if moments else 0
    fewest = min((len(moment) for moment in moments), default=0)
    return list(folders.values()) if len(folders) > 1 and 2 * shared >= fewest else [order]


def _moment(name: str) -> str:
    """What pictures that several cameras took at a time have in common: the name without folder and ending."""
    return name.rpartition("/")[2].rpartition(".")[0]


def sequential_pairs(names: Iterable[str], overlap: int = 10, quadratic: bool = True) -> list[Pair]:
    """Every image with the next ``overlap`` ones in the order of their names, of several cameras side by side also
    those that were taken at the same time.

    Args:
        names: images of one sequence, named so that numbers in them give the order of exposure; or of several cameras,
            with a folder each, see :func:`sequences_of`.
        overlap: neighbours on each side.
        quadratic: also the neighbours at distances 2 overlap, 4 overlap, ... up to 2^overlap, as COLMAP's sequential
            matcher does, which ties distant parts of a sequence together.
    """
    if overlap < 1:
        raise ConfigurationError(f"sequential pairs need an overlap of at least 1, not {overlap}")
    sequences = sequences_of(names)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {1 << power for power in range(overlap)}
    pairs = [
        (name, order[i + step])
        for order in sequences
        for i, name in enumerate(order)
        for step in sorted(steps)
        if i + step < len(order)
    ]
    moments: dict[str, list[str]] = {}
    for name in (name for order in sequences if len(sequences) > 1 for name in order):
        moments.setdefault(_moment(name), []).append(name)
    return pairs + [pair for together in moments.values() for pair in combinations(together, 2)]


def far_pairs(pairs: Iterable[Pair], names: Iterable[str], overlap: int, count: int) -> list[Pair]:
    """Of pairs of similar images, those that join distant parts of a sequence, or two of them.

    Args:
        pairs: (image, similar one), best first for each image.
        names: of the sequence, as for :func:`sequential_pairs`.
        overlap: images this near in the sequence are left out.
        count: for each image, the best so many of the others.
    """
    order = {name: (row, i) for row, sequence in enumerate(sequences_of(names)) for i, name in enumerate(sequence)}
    kept: dict[str, list[Pair]] = {}
    for pair in pairs:
        found = kept.setdefault(pair[0], [])
        (row0, place0), (row1, place1) = order[pair[0]], order[pair[1]]
        if (row0 != row1 or abs(place0 - place1) > overlap) and len(found) < count:
            found.append(pair)
    return [pair for found in kept.values() for pair in found]


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
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a list of pairs ({error})") from error
    known = None if names is None else set(names)
    known1 = known if reference_names is None else set(reference_names)
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (line.startswith("#") and known is None):
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
