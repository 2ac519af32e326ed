"""Match pairs of images from a feature file, or from two, into a match file: read, match, store, resume."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from posfeat_hloc import matchers
from posfeat_hloc.errors import StoreError
from posfeat_hloc.extract_features import batch_size_on, choose_device
from posfeat_hloc.features import Matches
from posfeat_hloc.mapping.pairs import Pair, read_pairs, unique_pairs
from posfeat_hloc.matchers import Matcher
from posfeat_hloc.memory import return_large_blocks
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.matches import DIRECTED

if TYPE_CHECKING:
    from posfeat_hloc.cluster import Cluster

Conf = dict[str, Any]
Descriptors = NDArray[np.float16]

CACHE_BYTES = 1 << 30
"""Descriptors kept in memory; beyond this the least recently used are read again."""


@dataclass(frozen=True)
class Matched:
    """All that is stored of one pair: its images, their matches, and the number of keypoints in image 1."""

    name0: str
    name1: str
    matches: Matches
    count1: int


@dataclass
class MatchingReport:
    """How many pairs were matched now, and how many were kept from an earlier run."""

    matched: int = 0
    reused: int = 0


def main(
    conf: Conf,
    pairs: Path,
    features: Path,
    export_dir: Path | None = None,
    matches: Path | None = None,
    features_ref: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Match as ``hloc.match_features.main`` does, and return the path of the file.

    Args:
        conf: one of ``confs.matchers``, or a dict of that shape.
        pairs: text file, two image names a line.
        features: HDF5 file of ours or hloc's.
        export_dir: folder of the match file, named as hloc names it, unless ``matches`` is given.
        features_ref: file of the second image of each pair; the same file when None.
        overwrite: match again what is there.
    """
    if matches is None:
        folder = Path(export_dir) if export_dir is not None else features.parent
        matches = folder / f"{features.stem}_{conf['output']}_{pairs.stem}.h5"
    with FeatureStore(features) as store:
        known = store.names()
    if features_ref is not None:
        with FeatureStore(features_ref) as store:
            found = read_pairs(pairs, known, store.names())
    else:
        found = read_pairs(pairs, known)
    match(conf, found, features, matches, device, overwrite, reference=features_ref)
    return matches


def match(
    conf: Conf,
    pairs: Sequence[Pair],
    features: Path,
    path: Path,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
    reference: Path | None = None,
    cluster: Cluster | None = None,
) -> MatchingReport:
    """Match what is missing or outdated in ``path``.

    With ``reference``, the second image of each pair is read from that feature file, and equal names in the two files
    are different images.

    A pair counts as done when its matches were made from the very features that are stored now (files that hloc wrote
    hold nothing to tell that by: there, any matches count). Memory does not grow with the number of pairs. With a
    cluster, its machines match, and ``device`` is theirs; this process reads the descriptors and writes the matches.

    Raises:
        ClusterError: the cluster lost its machines, or they have another version of this package.
        ConfigurationError: a conf that does not exist.
        StoreError: a file is damaged, in use, of another configuration, or lacks an image of the pairs, or the two
            files hold descriptors of different lengths.
    """
    return_large_blocks()
    target = choose_device(device) if cluster is None else "cpu"
    matcher = matchers.create(conf["model"])
    report = MatchingReport()
    record = {"model": conf["model"]} | ({} if reference is None else {DIRECTED: True})
    with (
        FeatureStore(features) as source0,
        FeatureStore(reference or features) as source1,
        MatchStore(path, record) as store,
    ):
        pairs = unique_pairs(pairs) if reference is None else list(dict.fromkeys(pairs))
        names0, names1 = {a for a, _ in pairs}, {b for _, b in pairs}
        digests0 = _digests(source0, names0 if reference is not None else names0 | names1)
        digests1 = digests0 if reference is None else _digests(source1, names1)
        todo = [(a, b) for a, b in pairs if overwrite or not store.is_current(a, b, (digests0[a], digests1[b]))]
        report.reused = len(pairs) - len(todo)
        descriptors0 = DescriptorCache(source0, CACHE_BYTES)
        descriptors1 = descriptors0 if reference is None else DescriptorCache(source1, CACHE_BYTES)

        def read(pair: Pair) -> tuple[Descriptors, Descriptors]:
            arrays = descriptors0[pair[0]], descriptors1[pair[1]]
            _check_lengths(pair, arrays, features, reference)
            return arrays

        todo.sort()  # pairs with a common image follow each other
        found = (
            matched(matcher, todo, read, target)
            if cluster is None
            else cluster.match(conf["model"], todo, read, device)
        )
        with tqdm(total=len(todo), desc="match", unit="pair", disable=not progress or not todo) as bar:
            for batch in found:
                for pair in batch:
                    digests = digests0[pair.name0], digests1[pair.name1]
                    store.write(pair.name0, pair.name1, pair.matches, pair.count1, digests)
                store.commit()
                report.matched += len(batch)
                bar.update(len(batch))
    return report


def matched(
    matcher: Matcher, pairs: Sequence[Pair], read: Callable[[Pair], tuple[Descriptors, Descriptors]], device: str
) -> Iterator[list[Matched]]:
    """Match pairs in their order, as many together as were matched at once; writes nothing.

    Args:
        matcher: see :func:`posfeat_hloc.matchers.create`.
        pairs: names of their images.
        read: gives the descriptors ``(N, D)``, ``(M, D)`` of a pair.
        device: a torch device.
    """
    for batch in _batches(pairs, batch_size_on(device)):
        arrays = [read(pair) for pair in batch]
        found = matchers.match_batch(matcher, arrays, device)
        yield [Matched(*pair, matches, len(d1)) for pair, matches, (_, d1) in zip(batch, found, arrays, strict=True)]


def _digests(store: FeatureStore, names: set[str]) -> dict[str, str]:
    if missing := sorted(name for name in names if name not in store):
        raise StoreError(f"{store.path}: holds no features of {missing[0]!r} ({len(missing)} images of the pairs)")
    return {name: store.digest(name) for name in names}


def _check_lengths(pair: Pair, arrays: tuple[Descriptors, Descriptors], features: Path, reference: Path | None) -> None:
    """Descriptors of different lengths come from different features."""
    length0, length1 = (array.shape[1] for array in arrays)
    if length0 != length1 and all(map(len, arrays)):
        raise StoreError(
            f"{features} has descriptors of {length0} numbers for {pair[0]!r}, {reference or features} has "
            f"descriptors of {length1} for {pair[1]!r}: different features; extract both with one configuration"
        )


def _batches(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


class DescriptorCache:
    """Descriptors by image name, read once while they fit into a number of bytes."""

    def __init__(self, store: FeatureStore, limit: int) -> None:
        self.store = store
        self.limit = limit
        self.size = 0
        self.arrays: OrderedDict[str, Descriptors] = OrderedDict()

    def __getitem__(self, name: str) -> Descriptors:
        if name in self.arrays:
            self.arrays.move_to_end(name)
            return self.arrays[name]
        array = np.ascontiguousarray(self.store.descriptors(name))
        self.arrays[name] = array
        self.size += array.nbytes
        while self.size > self.limit and len(self.arrays) > 2:
            self.size -= self.arrays.popitem(last=False)[1].nbytes
        return array
