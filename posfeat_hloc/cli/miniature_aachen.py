"""Make a small data set in the files of Aachen Day-Night v1 and v1.1, with true poses of its queries.

    posfeat-hloc miniature-aachen --output miniature
    posfeat-hloc miniature-aachen --output held_out --from-model sparse/0 photos

The first is a rendered town square in metres, its night queries darkened, blurred and noisy; the second takes
photographs with a COLMAP model and holds some out as queries. ``ground_truth.txt`` has the poses of the queries.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from posfeat_hloc.aachen.options import MiniatureOptions
from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of

RESUME = "delete the folder and run the command again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is made, and of what."""
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add("--from-model", type=Path, nargs=2, metavar=("MODEL", "IMAGES"),
        help="hold out images of a COLMAP model instead of rendering")  # fmt: skip
    add("--every", type=int, default=4, metavar="N", help="with --from-model: which image is a query (default: 4th)")
    add("--photos", type=Path, metavar="DIR", help="photographs for the textures (default: painted)")
    add_options(parser, MiniatureOptions, leave_out=("points",))
    add_quiet(parser)


def run(args: argparse.Namespace) -> bool:
    """Make the data set and print how to run the benchmark on it.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    from posfeat_hloc.aachen.miniature import TRUTH, hold_out, make_miniature

    command = f"posfeat-hloc aachen --feature posfeat-small --dataset {shlex.quote(str(args.output))}"
    command += f" --ground-truth {shlex.quote(str(args.output / TRUTH))}"
    if args.from_model is not None:
        model, images = args.from_model
        queries, size = hold_out(args.output, model, images, args.every, args.seed, args.layout)
        command += " --thresholds '" + " ".join(f"{part * size:.3g},{angle}" for part, angle in _OF_THE_SCENE) + "'"
        print(f"the cameras are spread over {size:.3g} units; 1 %, 2 % and 5 % of it are the thresholds below")
    else:
        options = chosen(args, MiniatureOptions)
        queries = make_miniature(args.output, options, args.photos, progress=reporter_of(args).progress)
    print(f"{args.output}: {len(queries)} queries with known poses; run\n  {command}")
    return True


_OF_THE_SCENE = ((0.01, 1), (0.02, 2), (0.05, 5))  # part of the scene's size, degrees
