"""Extraction and matching on this machine's GPU (or CPU): images and pairs a second, in memory.

    python benchmarks/gpu_throughput.py --features posfeat-small posfeat d2d-hardnet-subpixel

Random smooth images of 1024 x 768 pixels, 8192 keypoints at most; medians of repeated runs after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.features import Features
from posfeat_hloc.runtime.computation import choose_device


def seconds(action: Callable[[], object], device: str, repeats: int) -> float:
    """Median seconds of an action."""
    times = []
    for i in range(repeats + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print a JSON line for each feature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", default=["posfeat-small", "posfeat", "d2d-hardnet-subpixel"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--weights", nargs="*", default=[], help="files, in the order of --features")
    args = parser.parse_args()
    device = choose_device("auto")
    name = torch.cuda.get_device_name(0) if device == "cuda" else "CPU"
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, 3, 192, 256), generator=generator)
    image = F.interpolate(noise, size=(768, 1024), mode="bicubic").clamp(0, 1)
    for i, feature in enumerate(args.features):
        model = dict(confs.extractors[feature]["model"])
        if i < len(args.weights):
            model["weights"] = args.weights[i]
        extractor = extractors.create(model, device)
        given = image.mean(dim=1, keepdim=True) if extractor.grayscale else image
        given = given.to(device)
        found: list[Features] = []
        extraction = seconds(lambda: found.append(extractor(given)[0]), device, args.repeats)  # noqa: B023
        matcher = matchers.create(confs.matchers["NN-mutual"]["model"])
        both = found[0], found[1]
        matching = seconds(lambda: matchers.match(matcher, *both, device), device, args.repeats)  # noqa: B023
        row = {"device": name, "feature": feature, "keypoints": len(found[0].keypoints)}
        print(json.dumps(row | {"images_s": round(1 / extraction, 2), "pairs_s": round(1 / matching, 2)}), flush=True)


if __name__ == "__main__":
    main()
