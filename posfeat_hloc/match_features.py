"""Match pairs of images from a feature file, or from two, into a match file: read, match, store, resume."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import matchers
from posfeat_hloc.confs import Conf, module_of
from posfeat_hloc.errors import StoreError
from posfeat_hloc.extractors.extraction import batch_size_on
from posfeat_hloc.features import Matches
from posfeat_hloc.matchers.descriptor_cache import CACHE_BYTES, DescriptorCache, blocks_for_reuse
from posfeat_hloc.runtime.computation import choose_device, computing_threads, in_order
from posfeat_hloc.runtime.memory import return_large_blocks
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.matches import DIRECTED
from posfeat_hloc.stores.pairs import Pair, read_pairs, unique_pairs

Descriptors = NDArray[np.floating]
Batch = list[tuple[Pair, Descriptors, Descriptors]]
"""Pairs that are matched together, with their descriptors ``(N, D)`` and ``(M, D)``, with places where these count."""

COMMIT_SECONDS = 1.0
"""A killed run loses the pairs of at most this time, and those in hand."""


@dataclass(frozen=True)
class Matched:
    """All that is stored of one pair: its images, their matches, and the number of keypoints in image 1."""

    pair: Pair
    matches: Matches
    count1: int


class MatchingExecutor(Protocol):
    """Where pairs are matched, if not by this process: :class:`posfeat_hloc.cluster.Cluster` is one."""

    def pairs_in_a_task(self, count: int, device: str) -> int:
        """Pairs of a batch, of ``count`` pairs in all."""

    def match(self, model: Conf, batches: Iterable[Batch], device: str) -> Generator[Matched, None, None]:
        """As :func:`matched`, by the ``model`` of a matcher's conf."""


@dataclass
class MatchingReport:
    """Result of matching.

    Attributes:
        matched, reused: pairs matched now, or kept from an earlier run.
        counts: matches of each pair that was matched now.
    """

    matched: int = 0
    reused: int = 0
    counts: list[int] = field(default_factory=list, compare=False)

    def __str__(self) -> str:
        text = f"{self.matched} matched, {self.reused} kept"
        if self.counts:
            text += f"; {sum(self.counts)} matches, {median(self.counts):g} in the median pair"
        if empty := self.counts.count(0):
            text += f"; {empty} without a match"
        return text


def main(
    conf: Conf,
    pairs: Path,
    features: Path,
    export_dir: Path | None = None,
    matches: Path | None = None,
    features_ref: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    memory: int = CACHE_BYTES,
) -> Path:
    """Match as ``hloc.match_features.main`` does, print the number of matches, and return the path of the file.

    Args:
        conf: one of ``confs.matchers``, or a dict of that shape.
        pairs: text file, two image names a line.
        features: HDF5 file of ours or hloc's.
        export_dir: folder of the match file, named as hloc names it, unless ``matches`` is given.
        features_ref: file of the second image of each pair; the same file when None.
        overwrite: match again what is there.
        memory: bytes of descriptors kept in memory.
    """
    if matches is None:
        folder = Path(export_dir) if export_dir is not None else features.parent
        matches = folder / f"{features.stem}_{conf['output']}_{pairs.stem}.h5"
    with FeatureStore(features) as store:
        known = store.listed()  # of incomplete ones match() says what is wrong
    if features_ref is not None:
        with FeatureStore(features_ref) as store:
            found = read_pairs(pairs, known, store.listed())
    else:
        found = read_pairs(pairs, known)
    report = match(conf, found, features, matches, device, overwrite, reference=features_ref, memory=memory)
    print(f"pairs: {report}")
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
    memory: int = CACHE_BYTES,
    cluster: MatchingExecutor | None = None,
) -> MatchingReport:
    """Match what is missing or outdated in ``path``.

    With ``reference``, the second image of each pair is read from that feature file, and equal names in the two files
    are different images.

    A pair counts as done when its matches were made from the very features that are stored now (files that hloc wrote
    hold nothing to tell that by: there, any matches count). On a CPU, as many pairs are matched at a time as torch has
    threads.

    Args:
        memory: bytes of descriptors kept in memory. Where all do not fit, pairs are ordered so that most images are
            still read once or a few times.
        cluster: its machines match, and ``device`` is theirs; this process reads the descriptors and writes matches.

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
    record = configuration(conf) | ({} if reference is None else {DIRECTED: True})
    with (
        FeatureStore(features) as source0,
        FeatureStore(reference or features) as source1,
        MatchStore(path, record) as store,
    ):
        pairs = unique_pairs(pairs) if reference is None else list(dict.fromkeys(pairs))
        names0, names1 = {a for a, _ in pairs}, {b for _, b in pairs}
        for source in (source0, source1):
            matchers.check_suits(matchers.trained_for(matcher), source.configuration, source.path)
        places = matchers.trained_for(matcher) is not None
        images0 = StoredImages(source0, names0 if reference is not None else names0 | names1, places)
        images1 = images0 if reference is None else StoredImages(source1, names1, places, len(images0.names))
        todo = [
            (a, b)
            for a, b in Bar(sorted(pairs), desc="look up", unit="pair", disable=not progress, leave=False, delay=1)
            if overwrite or not store.is_current(a, b, (images0.digests[a], images1.digests[b]))
        ]
        report.reused = len(pairs) - len(todo)
        size = batch_size_on(target) if cluster is None else cluster.pairs_in_a_task(len(todo), device)
        batches = read_in_order(todo, images0, images1, memory, size)
        found = matched(matcher, batches, target) if cluster is None else cluster.match(conf["model"], batches, device)
        committed = time.monotonic()
        with (
            Bar(total=len(todo), desc="match", unit="pair", disable=not progress or not todo) as bar,
            closing(found) as results,
        ):
            for result in results:
                a, b = result.pair
                store.write(a, b, result.matches, result.count1, (images0.digests[a], images1.digests[b]))
                if time.monotonic() - committed >= COMMIT_SECONDS:
                    store.commit()
                    committed = time.monotonic()
                report.matched += 1
                report.counts.append(int((result.matches.indices >= 0).sum()))
                bar.update()
            store.commit()
    return report


def configuration(conf: Conf) -> Conf:
    """All that the stored matches depend on besides the features; precision does not change them."""
    model = {key: value for key, value in conf["model"].items() if key != "precision"}
    return {"model": model | {"name": module_of(model)}}


class StoredImages:
    """What is known of images of a file before their descriptors are read; they are numbered from ``first`` on."""

    def __init__(self, store: FeatureStore, names: set[str], places: bool, first: int = 0) -> None:
        store.require(names, "images of the pairs")
        self.store = store
        self.names = sorted(names)
        self.number = {name: first + i for i, name in enumerate(self.names)}
        self.digests = {name: store.digest(name) for name in self.names}
        self.places = places
        self.sizes = [store.descriptor_bytes(name) * (2 if places else 1) for name in self.names]

    def read(self, name: str) -> Descriptors:
        """Descriptors as the matcher takes them."""
        return read_descriptors(self.store, name, self.places)


def read_descriptors(store: FeatureStore, name: str, places: bool) -> Descriptors:
    """Descriptors ``(N, D)`` float16 as stored, or ``(N, D + 2)`` with :func:`posfeat_hloc.matchers.with_places`."""
    descriptors = store.descriptors(name)
    if not places:
        return descriptors
    return matchers.with_places(descriptors, store.keypoints(name), store.image_size(name), store.view(name).rotation)


def matched(matcher: matchers.Matcher, batches: Iterable[Batch], device: str) -> Generator[Matched, None, None]:
    """Match pairs, in their order; writes nothing. On a CPU this thread reads ahead while others match.

    Args:
        matcher: see :func:`posfeat_hloc.matchers.create`.
        batches: pairs with descriptors; on a CPU as many batches are matched at a time as torch has threads.
        device: a torch device.
    """
    workers = torch.get_num_threads() if torch.device(device).type == "cpu" else 1

    def work(batch: Batch) -> list[Matched]:
        found = matchers.match_batch(matcher, [(first, second) for _, first, second in batch], device)
        return [Matched(pair, matches, len(second)) for (pair, _, second), matches in zip(batch, found, strict=True)]

    with computing_threads(workers) as pool:
        for results in in_order(pool, work, batches, ahead=2 * workers):
            yield from results


def read_in_order(
    pairs: list[Pair], images0: StoredImages, images1: StoredImages, memory: int, size: int
) -> Iterator[Batch]:
    """Yield batches of pairs with their descriptors, ordered for reuse within ``memory`` bytes."""
    directed = images1 is not images0
    names = images0.names + (images1.names if directed else [])
    sizes = np.array(images0.sizes + (images1.sizes if directed else []), np.int64)
    numbers = np.array([(images0.number[a], images1.number[b]) for a, b in pairs], np.int64).reshape(-1, 2)

    def read(image: int) -> Descriptors:
        return (images0 if image < len(images0.names) else images1).read(names[image])

    cache = DescriptorCache(read, memory)
    for block in blocks_for_reuse(numbers, sizes, memory):
        cache.pinned = block.images
        for start in range(0, len(block.pairs), size):
            batch: Batch = []
            for row in block.pairs[start : start + size].tolist():
                batch.append((pairs[row], cache[int(numbers[row, 0])], cache[int(numbers[row, 1])]))
                _check_lengths(*batch[-1], images0.store.path, images1.store.path)
            yield batch


def _check_lengths(
    pair: Pair, descriptors0: Descriptors, descriptors1: Descriptors, features: Path, reference: Path
) -> None:
    """Descriptors of different lengths come from different features."""
    length0, length1 = descriptors0.shape[1], descriptors1.shape[1]
    if length0 != length1 and len(descriptors0) and len(descriptors1):
        raise StoreError(
            f"{features} has descriptors of {length0} numbers for {pair[0]!r}, {reference} has "
            f"descriptors of {length1} for {pair[1]!r}: different features; extract both with one configuration"
        )
