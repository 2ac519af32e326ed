"""Train dense descriptors to stand real light, rotation and zoom, on a pack of photographs and pairs.

    posfeat-hloc pack-views --photos photos/* --model sfm/church/sparse/0 church/images --output views.h5
    posfeat-hloc train-descriptors --pack views.h5 --init posfeat-small --output runs/descriptors
    posfeat-hloc train-descriptors --pack views.h5 --init posfeat-small --teacher disk-depth --output runs/taught
    posfeat-hloc sfm --images photos --feature posfeat-small --weights runs/descriptors/weights.safetensors

The same command resumes a stopped run. A GPU is used if there is one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.training.options import DescriptorTrainingOptions

RESUME = "the same command resumes from the last checkpoint, if there is one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The packs and how they are trained on."""
    add = parser.add_argument
    add("--pack", type=Path, nargs="+", required=True, metavar="FILE", help="made by pack-views")
    add("--output", type=Path, required=True, metavar="DIR", help="folder for checkpoint, log and weights.safetensors")
    add_quiet(parser)
    add_options(parser, DescriptorTrainingOptions)


def run(args: argparse.Namespace) -> bool:
    """Train."""
    from posfeat_hloc.training.descriptor_pipeline import train_descriptors

    options = chosen(args, DescriptorTrainingOptions)
    digest, metrics = train_descriptors(args.pack, args.output, options, reporter_of(args))
    print(f"wrote {args.output / 'weights.safetensors'} (SHA-256 {digest}; {json.dumps(metrics)})")
    return True
