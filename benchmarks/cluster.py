"""Extraction and matching by one process and on a Ray cluster of this machine: equal stores, and what a cluster costs.

    python benchmarks/cluster.py --images photos --output runs/cluster --workers 2

Seconds by the clock depend on what else runs; CPU seconds of all processes together hardly do. Each side works twice,
because the first round loads libraries and weights; starting Ray and its workers is counted apart. Needs psutil.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from posfeat_hloc import confs
from posfeat_hloc.cluster import Cluster, connect
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.match_features import match
from posfeat_hloc.sfm.pairs import exhaustive_pairs


def cpu_seconds() -> float:
    """Of this process and all that it started."""
    import psutil

    me = psutil.Process()
    times = [process.cpu_times() for process in [me, *me.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def run(name: str, images: Path, folder: Path, feature: str, cluster: Cluster | None) -> None:
    """Both stages; prints their seconds."""
    conf, matcher = confs.extractors[feature], confs.matchers[confs.default_matchers[feature]]
    pairs = exhaustive_pairs(list_images(images))
    start = time.perf_counter(), cpu_seconds()
    extract(conf, images, folder / "features.h5", device="cpu", progress=False, cluster=cluster)
    half = time.perf_counter(), cpu_seconds()
    match(matcher, pairs, folder / "features.h5", folder / "matches.h5", "cpu", progress=False, cluster=cluster)
    end = time.perf_counter(), cpu_seconds()
    seconds = [f"{stage} {b[0] - a[0]:.1f} s, {b[1] - a[1]:.1f} CPU s"
               for stage, a, b in (("extract", start, half), ("match", half, end))]  # fmt: skip
    print(f"{name:<11}{'; '.join(seconds)}; {len(pairs)} pairs", flush=True)


def equal(path0: Path, path1: Path) -> bool:
    """Whether two stores hold the same datasets, to the last bit."""
    with h5py.File(path0) as file0, h5py.File(path1) as file1:
        names: list[str] = []
        file0.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return all(np.array_equal(file0[name][()], file1[name][()]) for name in names) and len(names) > 0


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--feature", default="d2d-hardnet-subpixel", choices=list(confs.extractors))
    parser.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a worker computes
    folders = {name: args.output / name for name in ("single 1", "single 2", "cluster 1", "cluster 2")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    cluster = None
    for name, folder in folders.items():
        if cluster is None and name.startswith("cluster"):
            cluster = start(args.workers)
        run(name, args.images, folder, args.feature, cluster)
    first, *others = folders.values()
    files = ("features.h5", "matches.h5")
    same = all(equal(first / name, other / name) for other in others for name in files)
    print("all stores are equal" if same else "STORES DIFFER")


def start(workers: int) -> Cluster | None:
    """Start Ray and let every worker load this package."""
    begun = time.perf_counter(), cpu_seconds()
    cluster = connect(f"local:{workers}")
    if cluster is not None:
        for task in [cluster.submit(time.sleep, 1) for _ in range(2 * workers)]:
            task.result()
    print(f"{'start':<11}{time.perf_counter() - begun[0]:.1f} s, {cpu_seconds() - begun[1]:.1f} CPU s", flush=True)
    return cluster


if __name__ == "__main__":
    main()
