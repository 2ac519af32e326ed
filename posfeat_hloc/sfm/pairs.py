"""Which images are matched with which."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.stores.pairs import Pair


def exhaustive_pairs(names: Iterable[str]) -> list[Pair]:
    """Every image with every other: n (n - 1) / 2 pairs."""
    return list(combinations(sorted(set(names)), 2))


def sequences_of(names: Iterable[str]) -> list[list[str]]:
    """Images in the natural order of their names (``frame_2`` before ``frame_10``), one list for each camera.

    Cameras that took images side by side have a folder each, and the same names in all of them. Folders without
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
    """What images that several cameras took at a time have in common: the name without folder and ending."""
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
