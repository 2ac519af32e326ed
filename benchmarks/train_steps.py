"""Seconds a step and peak memory of PoSFeat's training on this machine, on rendered scenes.

    python benchmarks/train_steps.py --photos photos --stage describe --backbone resnet50 --size 640x480 --batch 6

Prints a line of Markdown: the median step after the first, and the largest memory of the whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path

import torch

from pipelines import train
from posfeat_hloc.networks.inference import has_fast_bf16
from posfeat_hloc.networks.posfeat import BACKBONES, PoSFeat
from posfeat_hloc.training.stages import STAGES
from posfeat_hloc.weights.loading import save_posfeat


def main() -> None:
    """Train a few steps from random weights, in a folder that is thrown away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, metavar="DIR")
    parser.add_argument("--stage", choices=STAGES, default="describe")
    parser.add_argument("--backbone", dest="backbone_name", choices=BACKBONES, default="resnet50")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--batch", default="6")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start, output = Path(folder) / "start.safetensors", Path(folder) / "run"
        torch.manual_seed(0)
        save_posfeat(start, PoSFeat(args.backbone_name), "consistent")
        options = f"--stage {args.stage} --size {args.size} --batch {args.batch} --precision {args.precision} "
        options += f"--steps {args.steps} --validation-pairs 1"
        data = ["--data", f"synthetic:{args.photos}", "--init", str(start), "--output", str(output)]
        if code := train.main([*options.split(), *data]):
            raise SystemExit(code)
        log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    seconds = statistics.median(record["seconds"] for record in log[2:])  # the first record is of no step
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    bf16 = args.precision == "bf16" or (args.precision == "auto" and has_fast_bf16(torch.device("cpu")))
    precision = "bf16" if bf16 else "fp32"
    threads = torch.get_num_threads()
    print("| stage | backbone | size | batch | precision | threads | s / step | peak GB |\n" + "|---" * 8 + "|")
    print(
        f"| {args.stage} | {args.backbone_name} | {args.size} | {args.batch} | {precision} | {threads} | "
        f"{seconds:.1f} | "
        f"{memory:.1f} |"
    )


if __name__ == "__main__":
    main()
