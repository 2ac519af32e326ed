"""Match a large collection of small synthetic images, to see whether cost grows linearly and memory stays constant.

    python benchmarks/match_scale.py --images 10000 --pairs 500000 --keypoints 64 --memory 64M

Half of an image's pairs are with its successors in the sequence, half with random ones. Prints the speed of each tenth
of the pairs with the resident memory at its end, how often descriptors were read, the size of the match file and the
time that a second run takes to find that all is done.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, match_features
from posfeat_hloc.cli.arguments import positive
from posfeat_hloc.features import Features
from posfeat_hloc.runtime.memory import memory_size
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair, unique_pairs

CONF = confs.matchers["NN-mutual"]


class Tenths:
    """Takes the place of the progress bar, and prints a line of the table for each tenth."""

    def __init__(self, total: int = 0, **_: Any) -> None:
        self.total = total
        self.count = 0
        self.start = clocks()

    def __enter__(self) -> Tenths:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        """One more pair is stored."""
        self.count += 1
        if self.count * 10 // self.total > (self.count - 1) * 10 // self.total:
            now = clocks()
            rates = self.total / 10 / (now - self.start)
            print(f"| {self.count} | {rates[0]:.0f} | {rates[1]:.0f} | {resident_mb():.0f} |", flush=True)
            self.start = now


def clocks() -> NDArray[np.float64]:
    """Seconds, and seconds of all cores together, which tell more on a machine that is not idle."""
    return np.array([time.perf_counter(), time.process_time()])


def resident_mb() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def write_features(path: Path, images: int, keypoints: int) -> list[str]:
    """Write random descriptors; each image shares half of them with the next."""
    rng = np.random.default_rng(0)
    names = [f"frames/{i:06}.jpg" for i in range(images)]
    half = keypoints // 2
    found = rng.normal(size=(keypoints, 128))
    with FeatureStore(path, {"features": "synthetic"}) as store:
        for i, name in enumerate(names):
            found = np.concatenate([found[half:], rng.normal(size=(half, 128))])
            unit = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
            places = rng.uniform(0, 1000, (len(unit), 2)).astype(np.float32)
            store.write(name, Features(places, np.ones(len(unit), np.float32), unit), (1000, 1000))
            if i % 500 == 499:
                store.commit()
        store.commit()
    return names


def choose_pairs(names: list[str], count: int) -> list[Pair]:
    """About ``count`` pairs, half of them near in the sequence."""
    rng = np.random.default_rng(1)
    near = max(1, count // len(names) // 2)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 1 + near]]
    while len(pairs) < count:
        drawn = rng.integers(0, len(names), (count - len(pairs), 2))
        pairs = unique_pairs(pairs + [(names[min(i, j)], names[max(i, j)]) for i, j in drawn.tolist()])
    return pairs[:count]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=10_000)
    parser.add_argument("--pairs", type=positive, default=500_000)
    parser.add_argument("--keypoints", type=positive, default=64)
    parser.add_argument("--memory", type=memory_size, default="1G", help="as of pipelines.sfm")
    parser.add_argument("--folder", type=Path, help="for the files, which are deleted (default: that of the system)")
    args = parser.parse_args()
    possible = args.images * (args.images - 1) // 2
    if args.pairs > possible // 2:
        parser.error(f"--pairs: at most half of all pairs of the images, {possible // 2}")
    reads: list[str] = []
    real = FeatureStore.descriptors

    def counted(store: FeatureStore, name: str) -> NDArray[np.float16]:
        reads.append(name)
        return real(store, name)

    FeatureStore.descriptors = counted  # type: ignore[method-assign]
    match_features.tqdm = Tenths
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        features, matches = Path(folder) / "features.h5", Path(folder) / "matches.h5"
        pairs = choose_pairs(write_features(features, args.images, args.keypoints), args.pairs)
        print(f"{args.images} images of {args.keypoints} keypoints, {len(pairs)} pairs, torch {torch.__version__} with "
              f"{torch.get_num_threads()} threads; {resident_mb():.0f} MB before\n")  # fmt: skip
        print("| pairs | pairs/s | pairs/core s | MB |\n|---|---|---|---|")
        start = clocks()
        match_features.match(CONF, pairs, features, matches, "cpu", memory=args.memory)
        seconds, cores = clocks() - start
        start = clocks()
        again = match_features.match(CONF, pairs, features, matches, "cpu", memory=args.memory)
        checked, checked_cores = clocks() - start
        size = matches.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{seconds:.0f} s, {len(pairs) / seconds:.0f} pairs/s, {cores:.0f} core s; peak {peak:.0f} MB; "
        f"{len(reads) / args.images:.2f} reads an image; {size / 2**20:.0f} MB of matches, "
        f"{size / len(pairs):.0f} bytes a pair; {again.reused} pairs found done in {checked:.0f} s, "
        f"{checked_cores:.0f} core s"
    )


if __name__ == "__main__":
    main()
