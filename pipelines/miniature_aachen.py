"""Make a small data set in the files of Aachen Day-Night v1 and v1.1, with true poses of its queries.

    python -m pipelines.miniature_aachen --output miniature
    python -m pipelines.miniature_aachen --output held_out --from-model sparse/0 photos

The first is a rendered town square in metres, its night queries darkened, blurred and noisy; the second takes
photographs with a COLMAP model and holds some out as queries. ``ground_truth.txt`` has the poses of the queries.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from posfeat_hloc.aachen.hold_out import hold_out
from posfeat_hloc.aachen.miniature import MiniatureOptions, make_miniature
from posfeat_hloc.aachen.posed_collection import LAYOUTS, TRUTH
from posfeat_hloc.cli.exit_codes import exit_code


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and make the data set."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: make(args), args.output, "delete the folder and run the command again")


def make(args: argparse.Namespace) -> bool:
    """Make the data set and print how to run the benchmark on it.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    command = f"python -m pipelines.aachen --feature posfeat-small --dataset {args.output}"
    command += f" --ground-truth {args.output / TRUTH}"
    if args.from_model is not None:
        model, images = args.from_model
        queries, size = hold_out(args.output, model, images, args.every, args.seed, args.layout)
        command += " --thresholds '" + " ".join(f"{part * size:.3g},{angle}" for part, angle in _OF_THE_SCENE) + "'"
        print(f"the cameras are spread over {size:.3g} units; 1 %, 2 % and 5 % of it are the thresholds below")
    else:
        options = MiniatureOptions(args.images, args.queries, args.size, seed=args.seed, layout=args.layout)
        queries = make_miniature(args.output, options, args.photos, progress=not args.quiet)
    print(f"{args.output}: {len(queries)} queries with known poses; run\n  {command}")
    return True


_OF_THE_SCENE = ((0.01, 1), (0.02, 2), (0.05, 5))  # part of the scene's size, degrees


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 480x360") from error
    return width, height


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.miniature_aachen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    add("--from-model", type=Path, nargs=2, metavar=("MODEL", "IMAGES"),
        help="hold out images of a COLMAP model instead of rendering")  # fmt: skip
    add("--every", type=int, default=4, metavar="N", help="with --from-model: which image is a query (default: 4th)")
    add("--images", type=int, default=MiniatureOptions.database, metavar="N",
        help="rendered database images (default: %(default)s)")  # fmt: skip
    add("--queries", type=int, default=MiniatureOptions.queries, metavar="N",
        help="rendered queries of the day, and as many of the night (default: %(default)s)")  # fmt: skip
    add(
        "--size", type=_size, default=MiniatureOptions.size, metavar="WxH", help="of rendered images (default: 480x360)"
    )
    add("--photos", type=Path, metavar="DIR", help="photographs for the textures (default: painted)")
    add("--layout", choices=LAYOUTS, default="hloc",
        help="hloc: as unpacked; posfeat: as in PoSFeat's repository (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
