"""Match synthetic views of photographs that were held out of training: where options are chosen, not on benchmarks.

    python benchmarks/held_out.py --photos photos/landmarks photos/travel --feature d2d-hardnet \\
        --options "{}" "{'radius': 3}" "{'positions': 'hessian', 'sigmas': [1.5, 3.0]}"

Prints a line of Markdown for each set of options: MMA at 1, 3 and 10 px, MMAscore, keypoints, matches, and matches
that are right within 1 and 3 px, all means over pairs.
"""

from __future__ import annotations

import argparse
import ast
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors
from posfeat_hloc.evaluation.homography import match_errors, matching_accuracy, mma_score
from posfeat_hloc.features import Features
from posfeat_hloc.matchers import create, match
from posfeat_hloc.training.patch_descriptors import read_photos
from posfeat_hloc.training.photometric import change_light
from posfeat_hloc.training.views import Image, SyntheticOptions, is_held_out, random_homography, warp

VIEWS = {
    "near": SyntheticOptions(size=640, rotation=8, scale=1.2, tilt=0.2, light=0.7),
    "far": SyntheticOptions(size=800, rotation=12, scale=1.5, tilt=0.4, light=1.0),
}
"""How different the two views of a photograph are; the far ones in strong changes of light, blur and noise."""

Pair = tuple[Image, Image, NDArray[np.float64]]


def make_pairs(photos: list[tuple[str, Image]], count: int, options: SyntheticOptions) -> list[Pair]:
    """Two views of a photograph in other light, and the homography between them."""
    held_out = [image for name, image in photos if is_held_out(name)]
    rng = np.random.default_rng(7)
    pairs = []
    for i in range(count):
        photo = held_out[i % len(held_out)]
        height, width = photo.shape
        base = min(height, width) / options.size * 0.9
        views = [random_homography(rng, np.array([width / 2, height / 2]), base, options) for _ in range(2)]
        images = [change_light(warp(photo, view, options.size), rng, options.light) for view in views]
        pairs.append((images[0], images[1], np.linalg.inv(views[1]) @ views[0]))
    return pairs


def describe(extractor: extractors.Extractor, image: Image) -> Features:
    """Features of one grey view."""
    pixels = torch.from_numpy(image)[None, None].float() / 255
    return extractor(pixels if extractor.grayscale else pixels.expand(-1, 3, -1, -1))[0]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--feature", default="d2d-hardnet", choices=list(confs.extractors))
    parser.add_argument("--options", nargs="+", default=["{}"], help="dictionaries of extractor options, a line each")
    parser.add_argument("--weights", help="other weights than the conf's")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--views", choices=list(VIEWS), default="near", help="how different (default: %(default)s)")
    parser.add_argument("--max-keypoints", type=int, default=4096)
    args = parser.parse_args()
    pairs = make_pairs(read_photos(args.photos), args.pairs, VIEWS[args.views])
    matcher = create(confs.matchers["NN-mutual"]["model"])
    print("| options | MMAscore | MMA@1 | MMA@3 | MMA@10 | keypoints | matches | right at 1 px | at 3 px | seconds |")
    print("|" + "---|" * 10)
    for text in args.options:
        model = extractors.with_limit(deepcopy(confs.extractors[args.feature]["model"]), args.max_keypoints)
        if args.weights:
            model["weights"] = args.weights
        extractor = extractors.create(model | ast.literal_eval(text))
        start = time.perf_counter()
        curves, counts = [], []
        for image0, image1, homography in pairs:
            first, second = describe(extractor, image0), describe(extractor, image1)
            indices = match(matcher, first, second).pairs()
            errors = match_errors(first.keypoints, second.keypoints, indices, homography)
            curves.append(matching_accuracy(errors))
            counts.append([len(first), len(indices), (errors <= 1).sum(), (errors <= 3).sum()])
        curve, mean = np.mean(curves, axis=0), np.mean(counts, axis=0)
        print(
            f"| {text} | {mma_score(curve):.3f} | {curve[0]:.3f} | {curve[2]:.3f} | {curve[9]:.3f} | "
            + " | ".join(f"{value:.0f}" for value in mean)
            + f" | {time.perf_counter() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
