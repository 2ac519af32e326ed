"""Collect photographs and pairs of them for the training of descriptors, in one file.

    posfeat-hloc pack-views --photos photos/* --model sfm/church/sparse/0 church/images \\
        --fixed webcams/* --sessions monthly/* --output views.h5
    posfeat-hloc train-descriptors --pack views.h5 --network small --output runs/descriptors

Single photographs give pairs of warped views. A COLMAP model gives pairs of photographs with common points and poses.
The photographs of a fixed camera are aligned by homographies, along the best chain of pairs, so that noon and midnight
are paired through the hours between. Sessions are photographs of nearly one view whose matches agree with one epipolar
geometry.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, chosen
from posfeat_hloc.runtime.reporter import Terminal
from posfeat_hloc.training.options import PackOptions

RESUME = "run the same command again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is packed."""
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the pack, e.g. views.h5")
    add_options(parser, PackOptions)


def run(args: argparse.Namespace) -> bool:
    """Write the pack, and say what it holds."""
    from posfeat_hloc.training.packing import pack_views

    whole = pack_views(args.output, chosen(args, PackOptions), Terminal(progress=True))
    print(f"wrote {args.output}: {len(whole.images)} photographs, {len(whole.pairs)} pairs")
    return True
