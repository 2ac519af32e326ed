"""Train PoSFeat from posed images: a stage at a time, on your own scenes, on MegaDepth, or on rendered scenes.

    posfeat-hloc train --stage warmup   --data synthetic:photos --output runs/warmup
    posfeat-hloc train --stage describe --data colmap:scene synthetic:photos \\
        --init runs/warmup/weights.safetensors --output runs/describe
    posfeat-hloc train --stage detect   --data colmap:scene synthetic:photos \\
        --init runs/describe/weights.safetensors --output runs/detect
    posfeat-hloc sfm --images photos --feature posfeat --weights runs/detect/weights.safetensors

The same command resumes a stopped run. On several GPUs, start it with
torchrun --nproc_per_node N -m pipelines.train ...; --batch is per GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, chosen
from posfeat_hloc.runtime.reporter import Terminal
from posfeat_hloc.training.options import TrainingOptions

RESUME = "run the same command again to resume from the last checkpoint"


def add_data(parser: argparse.ArgumentParser) -> None:
    """``--data``."""
    parser.add_argument("--data", nargs="+", required=True, metavar="KIND:DIR",
        help="what to train on: colmap:DIR (with sparse/0 or sparse, and images); colmap:MODEL,IMAGES; megadepth:DIR "
        "(scenes in CAPS's layout); megadepth:DIR,SCENES (those named in a text file, one a line); synthetic:DIR "
        "(photographs)")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data and how it is trained."""
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
        help="folder for checkpoint, log, images and weights.safetensors")  # fmt: skip
    add_options(parser, TrainingOptions)


def run(args: argparse.Namespace) -> bool:
    """Train, and say how good it is."""
    from posfeat_hloc.training.pipeline import train

    result = train(args.data, args.output, chosen(args, TrainingOptions), Terminal(progress=True))
    if result.chief:
        for name, value in result.metrics.items():
            print(f"  {name:<14}{value:.4f}")
        print(f"the best weights: {result.weights}")
    return True
