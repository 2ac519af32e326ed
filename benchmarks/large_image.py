"""Seconds and peak memory of PoSFeat on one large image, with random weights: neither depends on their values.

    python benchmarks/large_image.py --backbone resnet50 --size 5472x3648

Prints a line of Markdown. Memory is that of the whole process, Python and libraries included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from posfeat_hloc import extractors
from posfeat_hloc.networks.posfeat import BACKBONES, PoSFeat
from posfeat_hloc.weights.loading import save_posfeat


def main() -> None:
    """Make an image with texture, extract its features once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", dest="backbone_name", choices=BACKBONES, default="resnet50")
    parser.add_argument("--size", default="5472x3648", help="WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        torch.manual_seed(0)
        save_posfeat(path, PoSFeat(args.backbone_name), "consistent")
        model = {"name": "posfeat", "weights": str(path), "reproduce_official": False, "precision": args.precision}
        extractor = extractors.create(model)
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    pixels = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    del pixels
    start = time.perf_counter()
    found = extractor(image)[0]
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print("| backbone | size | megapixels | precision | threads | seconds | peak GB | keypoints |\n" + "|---" * 8 + "|")
    print(
        f"| {args.backbone_name} | {args.size} | {width * height / 1e6:.1f} | {args.precision} | "
        f"{torch.get_num_threads()} | "
        f"{seconds:.0f} | {memory:.2f} | {len(found)} |"
    )


if __name__ == "__main__":
    main()
