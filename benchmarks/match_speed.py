"""Pairs matched a second by this package and by hloc's `match_features.main`, on the same files in the same run.

    PYTHONPATH=Hierarchical-Localization python benchmarks/match_speed.py --keypoints 2048 4096 8192

Images are synthetic: half of an image's descriptors are noisy views of points that all images see, half are its own.
Both sides read one feature file and write their own match file, in turns; the seconds are the least of all rounds and
hold everything from opening the files to closing them. Seconds of all cores together tell more on a machine that is not
idle. Prints a table in Markdown, and fails where matches differ by more than ties.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, match_features
from posfeat_hloc.errors import PosfeatError
from posfeat_hloc.features import Features
from posfeat_hloc.hloc_plugin.installation import load
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import write_pairs

TIE = 1e-6
"""Cosines that differ by less are ties: float32 rounds them to here or there."""


@dataclass
class Agreement:
    """How many matches of hloc's are ours, too, and how many of the others are no ties."""

    total: int = 0
    equal: int = 0
    wrong: int = 0


def write_features(path: Path, images: int, keypoints: int, dimension: int) -> list[str]:
    """Write synthetic features and return the names of the images."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(keypoints // 2, dimension))
    names = [f"image{i:03}.jpg" for i in range(images)]
    with FeatureStore(path, {"features": "synthetic"}) as store:
        for name in names:
            noise = rng.uniform(0, 1, (len(points), 1)) * rng.normal(size=points.shape)
            own = rng.normal(size=(keypoints - len(points), dimension))
            found = rng.permutation(np.concatenate([points + noise, own]))
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            places = rng.uniform(0, 1000, (keypoints, 2)).astype(np.float32)
            store.write(name, Features(places, np.ones(keypoints, np.float32), found.astype(np.float32)), (1000, 1000))
        store.commit()
    return names


def seconds_of(run: Callable[[Path], object], output: Path) -> tuple[float, float]:
    """Wall time of matching everything anew, and the time of all cores in this process and its children."""
    output.unlink(missing_ok=True)
    start, before = time.perf_counter(), sum(os.times()[:4])
    with redirect_stderr(StringIO()):  # progress bars
        run(output)
    return time.perf_counter() - start, sum(os.times()[:4]) - before


def compare(features: Path, pairs: list[tuple[str, str]], ours: Path, theirs: Path, mutual_only: bool) -> Agreement:
    """Hold each match of either side that the other does not have against cosines in float64."""
    result = Agreement()
    with FeatureStore(features) as store, MatchStore(ours) as one, MatchStore(theirs) as two:
        for a, b in pairs:
            count = store.keypoints(a).shape[0]
            mine, other = one.read(a, b, count).indices, two.read(a, b, count).indices
            result.total += int((other >= 0).sum())
            result.equal += int(((other >= 0) & (mine == other)).sum())
            rows = np.flatnonzero(mine != other)
            if len(rows):
                result.wrong += _without_tie(store, (a, b), rows, mine, other) if mutual_only else len(rows)
    return result


def _without_tie(
    store: FeatureStore,
    pair: tuple[str, str],
    rows: NDArray[np.int64],
    mine: NDArray[np.int64],
    other: NDArray[np.int64],
) -> int:
    """Differences that remain where all cosines within a tolerance of the highest count as the highest."""
    one, two = (store.descriptors(name).astype(np.float64) for name in pair)
    wrong = 0
    for row in rows:
        for j in {int(mine[row]), int(other[row])} - {-1}:
            cosine = one[row] @ two[j]
            wrong += cosine < max((one[row] @ two.T).max(), (one @ two[j]).max()) - TIE
    return wrong


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keypoints", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=30, help="at most so many of all pairs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--matchers", nargs="+", choices=["NN-mutual", "NN-ratio"], default=["NN-mutual", "NN-ratio"])
    args = parser.parse_args()
    try:
        hloc_matching = load("hloc.match_features", "main", "confs")
    except PosfeatError as error:
        sys.exit(f"error: {error}")
    logging.getLogger("hloc").setLevel("ERROR")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(
        "| keypoints | matcher | hloc, pairs/s | ours, pairs/s | ratio | hloc, core s a pair | ours | ratio "
        "| same matches | differences without ties |"
    )
    print("|---" * 10 + "|")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        listed = root / "pairs.txt"
        for keypoints in args.keypoints:
            features = root / f"features{keypoints}.h5"
            names = write_features(features, args.images, keypoints, args.dimension)
            pairs = list(combinations(names, 2))[: args.pairs]
            write_pairs(listed, pairs)
            for name in args.matchers:

                def theirs(path: Path, name: str = name, features: Path = features) -> None:
                    hloc_matching.main(hloc_matching.confs[name], listed, features, matches=path)

                def ours(path: Path, name: str = name, features: Path = features) -> None:
                    match_features.main(confs.matchers[name], listed, features, matches=path)

                outputs = root / "theirs.h5", root / "ours.h5"
                runs = list(zip((theirs, ours), outputs, strict=True))
                rounds = [[seconds_of(run, output) for run, output in runs] for _ in range(args.rounds)]
                wall, cores = np.min(rounds, axis=0).T / len(pairs)
                found = compare(features, pairs, outputs[1], outputs[0], name == "NN-mutual")
                wrong += found.wrong
                print(
                    f"| {keypoints} | {name} | {1 / wall[0]:.2f} | {1 / wall[1]:.2f} | {wall[0] / wall[1]:.1f} "
                    f"| {cores[0]:.3f} | {cores[1]:.3f} | {cores[0] / cores[1]:.1f} "
                    f"| {found.equal} of {found.total} | {found.wrong} |",
                    flush=True,
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
