"""What camera poses add to a description network: one cause at a time, the same start and budget, several seeds.

    python benchmarks/pose_supervision.py --pack views.h5 --held-out een_07_heidelberg --output runs/poses

Each variant trains the same start for the same steps; all are judged on whole photographs of held-out scenes
(benchmarks/held_out_scenes.py). Writes results.jsonl; finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from held_out_scenes import evaluate

from posfeat_hloc import confs, extractors
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.training.dense_networks import open_network, save
from posfeat_hloc.training.descriptors import DescriptorTrainer
from posfeat_hloc.training.options import DescriptorTrainingOptions
from posfeat_hloc.training.view_pack import join, read_pack
from posfeat_hloc.training.warped_views import Shelf

POSES: dict[str, Any] = {"single": 0, "model": 1, "tracks": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "self-supervised": {"single": 1, "model": 0},
    "poses only": POSES | {"poses": 1.0},
    "poses only, frozen statistics": POSES | {"poses": 1.0, "frozen_statistics": True},
    "poses only, off-line negatives": POSES | {"pose_contrast": 1.0, "frozen_statistics": True},
    "self-supervised and poses": {"single": 0.5, "model": 0.5, "tracks": False, "poses": 0.3},
    "self-supervised and off-line negatives": {"single": 0.5, "model": 0.5, "tracks": False, "pose_contrast": 1.0},
    "self-supervised and tracks": {"single": 0.5, "model": 0.5},
}
"""What each variant changes, single and model as parts of the pairs of a step; everything else is the same."""


def main() -> None:
    """Train and judge all variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pack", type=Path, nargs="+", required=True)
    add("--held-out", nargs="+", required=True, help="scenes to judge on")
    add("--init", default="posfeat-small")
    add("--feature", default="posfeat-small")
    add("--steps", type=int, default=600)
    add("--learning-rate", type=float, default=3e-4)
    add("--light", type=float, default=1.0)
    add("--seeds", type=int, default=3)
    add("--batch", type=int, default=16, help="pairs of a step")
    add("--size", type=int, default=320, help="side of a view in pixels")
    add("--points", type=int, default=384, help="of a pair")
    add("--cell", type=int, default=8, help="a point is the most curved pixel of a cell of this side")
    add("--pairs", type=int, default=40, help="of a held-out scene")
    add("--variants", nargs="+", default=list(VARIANTS))
    add("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results = args.output / "results.jsonl"
    done = [json.loads(line)["run"] for line in results.read_text().splitlines()] if results.exists() else []
    device = torch.device(choose_device("auto"))
    pack = join([read_pack(path) for path in args.pack])
    held = set(args.held_out)
    shelf = Shelf(pack, device, set(pack.groups) - held)
    held_out = shelf.of_groups(held)

    def judge(run: str, weights: str) -> None:
        model = dict(confs.extractors[args.feature]["model"]) | {"weights": weights}
        extractor = extractors.create(model, choose_device("auto"))
        row: dict[str, Any] = {"run": run}
        for group in args.held_out:
            candidates = [p for p in pack.pairs if pack.groups[p.image0] == group and p.fundamental is not None]
            order = np.random.default_rng(0).permutation(len(candidates))[: args.pairs]
            if len(order):
                found = evaluate(pack, [candidates[k] for k in order], extractor, 2048)
                row[group] = {key: round(value, 4) for key, value in found.items()}
        line = json.dumps(row)
        print(line, flush=True)
        with results.open("a") as file:
            file.write(line + "\n")

    if "start" not in done:
        judge("start", args.init)
    for seed in range(args.seeds):
        for name in args.variants:
            run = f"{name}, seed {seed}"
            if run in done:
                continue
            network, start = open_network(None, args.init)
            network.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            variant = dict(VARIANTS[name])
            kinds = {kind: round(variant.pop(kind) * args.batch) for kind in ("single", "model")}
            options = DescriptorTrainingOptions(
                steps=args.steps, learning_rate=args.learning_rate, relight=args.light, fixed=0, seed=seed,
                validate_every=args.steps, size=args.size, points=args.points, cell=args.cell, **kinds, **variant,
            )  # fmt: skip
            folder = args.output / run.replace(", ", "_").replace(" ", "-")
            DescriptorTrainer(options, (start,), network, shelf, held_out, folder).run(progress=False)
            save(folder / "weights.safetensors", network, {"steps": str(args.steps)})
            judge(run, str(folder / "weights.safetensors"))


if __name__ == "__main__":
    main()
