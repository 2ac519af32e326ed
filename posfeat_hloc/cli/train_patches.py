"""Train HardNet or SOSNet on photographs and COLMAP models.

    posfeat-hloc train-patches --photos photos --model sfm/sparse/0 photos_of_it --output runs/hardnet

Photographs give synthetic views; a COLMAP model gives crops around the observations of common 3D points.
The same command resumes a stopped run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, chosen
from posfeat_hloc.runtime.reporter import Terminal
from posfeat_hloc.training.options import PatchTrainingOptions

RESUME = "run the same command again to resume from the last checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data and how it is trained."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
        help="folder for checkpoint, log and weights.safetensors")  # fmt: skip
    add_options(parser, PatchTrainingOptions)


def run(args: argparse.Namespace) -> bool:
    """Train."""
    from posfeat_hloc.training.patch_descriptors import train_patches

    digest = train_patches(args.output, chosen(args, PatchTrainingOptions), Terminal(progress=True))
    print(f"wrote {args.output / 'weights.safetensors'} (SHA-256 {digest})")
    return True
