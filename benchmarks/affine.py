"""MMA on Oxford-affine sequences, features side by side in one run.

    python benchmarks/affine.py --dataset affine --features sift d2d-hardnet

Protocol of PoSFeat and D2-Net: image 1 against 2..6, mutual nearest neighbours, forward error, MMA averaged over pairs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np

from posfeat_hloc import confs
from posfeat_hloc.evaluation.homography import match_errors, matching_accuracy, mma_score
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images import list_images
from posfeat_hloc.matchers import create, match
from posfeat_hloc.stores import FeatureStore


def evaluate(conf: confs.Conf, dataset: Path) -> tuple[dict[str, np.ndarray], float, float]:
    """MMA curve of each sequence, mean keypoints and mean matches."""
    matcher = create(confs.matchers["NN-mutual"]["model"])
    names = [name for name in list_images(dataset) if "img" in name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        extract(conf, dataset, path, names, progress=False)
        curves: dict[str, np.ndarray] = {}
        keypoints, matches = [], []
        with FeatureStore(path) as store:
            for sequence in sorted({name.split("/")[0] for name in names}):
                images = {n.split("img")[1].split(".")[0]: n for n in names if n.startswith(sequence + "/")}
                first = store.read(images["1"])
                accuracy = []
                for i in "23456":
                    other = store.read(images[i])
                    pairs = match(matcher, first, other).pairs()
                    homography = np.loadtxt(dataset / sequence / f"H1to{i}p")
                    accuracy.append(
                        matching_accuracy(match_errors(first.keypoints, other.keypoints, pairs, homography))
                    )
                    keypoints.append(len(other))
                    matches.append(len(pairs))
                curves[sequence] = np.mean(accuracy, axis=0)
    return curves, float(np.mean(keypoints)), float(np.mean(matches))


def _number(text: str) -> float | str:
    """``8192`` and ``0.04`` as numbers, anything else as it is."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--features", nargs="+", default=list(confs.extractors), choices=list(confs.extractors))
    parser.add_argument("--weights", help="other weights for all features with a network")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="options of the extractors")
    args = parser.parse_args()
    header_done = False
    for feature in args.features:
        conf = deepcopy(confs.extractors[feature])
        if args.weights and conf["model"].get("descriptor") != "rootsift":
            conf["model"]["weights"] = args.weights
        for item in args.set:
            key, value = item.split("=")
            conf["model"][key] = _number(value)
        start = time.perf_counter()
        curves, keypoints, matches = evaluate(conf, args.dataset)
        if not header_done:
            sequences = " | ".join(curves)
            print(f"| feature | MMAscore | {sequences} | MMA@1 | MMA@3 | MMA@10 | keypoints | matches | seconds |")
            print("|" + "---|" * (8 + len(curves)))
            header_done = True
        mean = np.mean(list(curves.values()), axis=0)
        each = " | ".join(f"{mma_score(curve):.3f}" for curve in curves.values())
        print(
            f"| {feature} | {mma_score(mean):.3f} | {each} | {mean[0]:.3f} | {mean[2]:.3f} | {mean[9]:.3f} "
            f"| {keypoints:.0f} | {matches:.0f} | {time.perf_counter() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
