"""Draw the figures of the papers for your photographs.

posfeat-hloc images saliency  --images a.jpg b.jpg                          # D2D figure 3
posfeat-hloc images landmarks --models outputs/photos/sparse/0 --images photos   # PoSFeat figure 1
posfeat-hloc images matches   --images graf/img1.ppm graf/img3.ppm --homography graf/H1to3p   # figure 6
posfeat-hloc images matches   --images photos/a.jpg photos/b.jpg --model outputs/photos/sparse/0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, chosen, positive
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.evaluation.options import MatchPictureOptions
from posfeat_hloc.runtime.reporter import Terminal

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.drawing import Picture

RESUME = "run the same command again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A parser for each image."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("saliency", help="S_AS, S_RS, S_D2D and their differences")
    add = command.add_argument
    add("--images", type=Path, nargs="+", required=True, metavar="FILE")
    add("--network", choices=["hardnet", "sosnet"], default="hardnet", help="default: %(default)s")
    add("--weights", help="weights instead of the bundled ones")
    add("--radius", type=positive, default=5, help="r_RS in cells (default: %(default)s)")
    _add_output(command, "saliency.png", _saliency, 400)

    command = commands.add_parser("landmarks", help="keypoints that become landmarks of a model, and those that do not")
    add = command.add_argument
    add("--models", type=Path, nargs="+", required=True, metavar="DIR", help="COLMAP models, a column each")
    add("--images", type=Path, required=True, metavar="DIR", help="their photographs")
    add("--names", nargs="+", metavar="NAME", default=(), help="images of the models (default: three)")
    _add_output(command, "landmarks.png", _landmarks, 800)

    command = commands.add_parser("matches", help="matches colored by their errors")
    command.add_argument("--images", type=Path, nargs=2, required=True, metavar="FILE")
    truth = command.add_mutually_exclusive_group(required=True)
    truth.add_argument("--homography", type=Path, metavar="FILE",
        help="from the first image to the second, nine numbers")  # fmt: skip
    truth.add_argument("--model", type=Path, metavar="DIR",
        help="COLMAP model with both; errors are epipolar distances")  # fmt: skip
    add_options(command, MatchPictureOptions, leave_out=("homography", "model"))
    _add_output(command, "matches.png", _matches)


def run(args: argparse.Namespace) -> Summary:
    """Draw, and write the image."""
    from posfeat_hloc.evaluation.figures import write_picture

    picture: Picture = args.draw(args)
    write_picture(args.output, picture)
    height, width = picture.shape[:2]
    return Summary(f"{args.output}: {width}x{height}", {"output": args.output, "width": width, "height": height})


def _saliency(args: argparse.Namespace) -> Picture:
    from posfeat_hloc.evaluation.figures import draw_saliency

    return draw_saliency(args.images, args.network, args.weights, args.radius, args.max_size)


def _landmarks(args: argparse.Namespace) -> Picture:
    from posfeat_hloc.evaluation.figures import draw_landmarks

    return draw_landmarks(args.models, args.images, args.names, args.max_size, Terminal(progress=True))


def _matches(args: argparse.Namespace) -> Picture:
    from posfeat_hloc.evaluation.figures import draw_matches

    first, second = args.images
    return draw_matches((first, second), chosen(args, MatchPictureOptions), Terminal(progress=True))


def _add_output(command: argparse.ArgumentParser, name: str, draw: object, size: int | None = None) -> None:
    command.set_defaults(draw=draw)
    command.add_argument("--output", type=Path, default=Path(name), metavar="FILE", help="default: %(default)s")
    if size is not None:
        command.add_argument("--max-size", type=positive, default=size, metavar="PX",
            help="longest side of a panel (default: %(default)s)")  # fmt: skip
