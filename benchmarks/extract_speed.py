"""Images per second of the extraction loop against hloc's, with the same PoSFeat weights and images.

    python benchmarks/extract_speed.py --images fountain-P11/images --count 6 --max-size 1024 --rounds 3

Three runs take turns: hloc's ``extract_features.main`` with PoSFeat's networks as they are written down (fp32, batch
normalisations of their own, the head at full resolution), hloc's with the model of this package, and
``posfeat_hloc.extract_features.main``. Decoding and writing are included. Seconds are elapsed ones, and those of
processors in all processes, which other work on the machine changes less. ``same matches``: how many of the mutual
nearest neighbours between consecutive images that the first run finds are found by ours, within a pixel of the image.
Trunks other than ``small`` have random weights, which take as long as trained ones. Needs hloc.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import posfeat_hloc
from posfeat_hloc import confs, extract_features, matchers
from posfeat_hloc.detection.peaks import find_peaks, refine
from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import HlocError
from posfeat_hloc.extractors.posfeat import Options, crop, pad
from posfeat_hloc.hloc_plugin.installation import load
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.networks.posfeat import BACKBONES, PoSFeat
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat

PLAIN = "plain_posfeat"
"""Name of the model of hloc that this benchmark adds."""


def add_plain_model() -> None:
    """Put a model into hloc that computes PoSFeat as it is written down."""

    class PlainPoSFeat(load("hloc.utils.base_model", "BaseModel").BaseModel):  # type: ignore[misc]
        required_inputs = ("image",)

        def _init(self, conf: dict[str, Any]) -> None:
            self.options = Options(**{key: value for key, value in conf.items() if key != "name"})
            loaded = load_posfeat(self.options.weights)
            self.grid_alignment = self.options.grid_alignment or loaded.grid_alignment
            self.backbone, self.head = loaded.backbone, loaded.localheader
            self.to(memory_format=torch.contiguous_format)

        def _forward(self, data: dict[str, Tensor]) -> dict[str, list[Tensor]]:
            opt, (height, width) = self.options, data["image"].shape[-2:]
            image = (crop if opt.reproduce_official else pad)(data["image"])
            maps = self.backbone(image)
            scores = self.head(maps.local_map, maps.local_map_small, image)[0, :height, :width]
            pixels = find_peaks(scores, opt.radius, opt.threshold, opt.max_keypoints, opt.reproduce_official)
            keypoints, values = refine(scores, pixels, opt.subpixel)
            descriptors = read_descriptors(maps.local_map[0], keypoints, self.grid_alignment)
            return {"keypoints": [keypoints.double()], "scores": [values], "descriptors": [descriptors.T]}

    module = ModuleType(f"hloc.extractors.{PLAIN}")
    PlainPoSFeat.__module__ = module.__name__
    module.PlainPoSFeat = PlainPoSFeat  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


def conf_of(backbone_name: str, max_size: int, max_keypoints: int, folder: Path) -> confs.Conf:
    """The conf of a backbone; random weights are written to ``folder``."""
    conf = deepcopy(confs.extractors["posfeat-small" if backbone_name == "small" else "posfeat"])
    conf["model"]["max_keypoints"] = max_keypoints
    conf["preprocessing"]["resize_max"] = max_size
    if backbone_name != "small":
        torch.manual_seed(0)
        save_posfeat(folder / f"{backbone_name}.safetensors", PoSFeat(backbone_name), "consistent")
        conf["model"]["weights"] = str(folder / f"{backbone_name}.safetensors")
    return conf


def same_matches(theirs: Path, ours: Path, names: list[str]) -> float:
    """Share of the matches in one file that the other has, too."""
    matcher = matchers.create(confs.matchers["NN-mutual"]["model"])
    found = []
    with FeatureStore(theirs) as store0, FeatureStore(ours) as store1:
        for a, b in pairwise(names):
            places = []
            for store in (store0, store1):
                f0, f1 = store.read(a), store.read(b)
                pairs = matchers.match(matcher, f0, f1).pairs()
                places.append(np.hstack([f0.keypoints[pairs[:, 0]], f1.keypoints[pairs[:, 1]]]))
            apart = torch.cdist(*(torch.from_numpy(p)[None] for p in places), p=float("inf"))[0]
            found.append((apart.amin(dim=1) < 1).float().mean().item())
    return statistics.mean(found)


def cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


def compare(backbone_name: str, args: argparse.Namespace, folder: Path) -> None:
    """Time the three runs for one network and print a table."""
    hloc = load("hloc.extract_features", "main")
    conf = conf_of(backbone_name, args.max_size, args.max_keypoints, folder)
    plain = deepcopy(conf)
    plain["model"]["name"] = PLAIN
    names = list_images(args.images)[: args.count]
    runs: dict[str, Callable[[Path], object]] = {
        "hloc, plain network": lambda path: hloc.main(plain, args.images, feature_path=path, image_list=names),
        "hloc, our model": lambda path: hloc.main(conf, args.images, feature_path=path, image_list=names),
        "ours": lambda path: extract_features.main(conf, args.images, feature_path=path, image_list=names),
    }
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    files = [folder / f"{backbone_name}-{i}.h5" for i in range(len(runs))]
    for _ in range(args.rounds):
        for path, (name, run) in zip(files, runs.items(), strict=True):
            path.unlink(missing_ok=True)
            start, start_cpu = time.perf_counter(), cpu_seconds()
            run(path)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(cpu_seconds() - start_cpu)
    same = same_matches(files[0], files[-1], names)
    print(
        f"\n**PoSFeat on {backbone_name}**, {len(names)} images of at most {args.max_size} px, "
        f"{args.max_keypoints} keypoints, "
        f"{torch.get_num_threads()} threads, medians of {args.rounds} rounds; {same:.1%} same matches\n\n"
        "| | images/s | times | CPU s an image | times |\n|---|---|---|---|---|"
    )
    first = next(iter(runs))
    for name in runs:
        seconds, processor = statistics.median(wall[name]), statistics.median(cpu[name])
        print(
            f"| {name} | {len(names) / seconds:.2f} | {statistics.median(wall[first]) / seconds:.1f} "
            f"| {processor / len(names):.2f} | {statistics.median(cpu[first]) / processor:.1f} |"
        )


def main() -> None:
    """Print a table in Markdown for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6, help="the first images of the folder, two or more")
    parser.add_argument("--max-size", type=int, default=1024)
    parser.add_argument("--max-keypoints", type=int, default=4096)
    parser.add_argument(
        "--backbones", dest="backbone_names", nargs="+", default=["small", "resnet50"], choices=BACKBONES
    )
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.count < 2:
        parser.error("--count must be at least 2: matches are compared")
    try:
        posfeat_hloc.register()
        add_plain_model()
    except HlocError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as folder:
        for backbone_name in args.backbone_names:
            compare(backbone_name, args, Path(folder))


if __name__ == "__main__":
    main()
