"""The ablations of both papers, one command each.

    python -m pipelines.ablations d2d-terms     --dataset hpatches-sequences-release   # D2D Table 3
    python -m pipelines.ablations d2d-radius    --dataset hpatches-sequences-release   # D2D figure 7
    python -m pipelines.ablations repeatability --dataset hpatches-sequences-release   # D2D Table 5
    python -m pipelines.ablations time          --images photos                        # D2D figure 5
    python -m pipelines.ablations posfeat-window --dataset DIR --steps 1000 --data colmap:scene   # PoSFeat Table 4
    python -m pipelines.ablations posfeat-models --dataset DIR --steps 1000 --data colmap:scene   # PoSFeat figure 7

The last two train first; an option that they do not have is one of pipelines.train and holds for all their runs.
Run the same command again to resume.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines import ablate_posfeat as posfeat
from pipelines import ablate_saliency as saliency
from pipelines.argument_types import add_feature_options, add_matching_options, positive
from pipelines.extraction_time import extraction_time
from pipelines.hpatches import add_dataset_options
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.evaluation.repeatability import THRESHOLD


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 when there is a table."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not args.trains:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    def action() -> bool:
        return bool(args.run(args, rest) if args.trains else args.run(args))

    return exit_code(action, args.output, "run the same command again to go on from here")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("d2d-terms", help="S_AS, S_RS and both (D2D Table 3)")
    command.set_defaults(run=saliency.compare_terms, trains=False)
    add_dataset_options(command)
    add_feature_options(command, saliency.D2D_FEATURES)

    command = commands.add_parser("d2d-radius", help="window of S_RS (D2D figure 7)")
    command.set_defaults(run=saliency.sweep_radius, trains=False)
    add_dataset_options(command)
    add_feature_options(command, saliency.D2D_FEATURES)
    command.add_argument("--radii", type=positive, nargs="+", default=list(saliency.RADII), metavar="CELLS",
        help="r_RS in cells of the map (default: 1 3 5 7 10)")  # fmt: skip

    command = commands.add_parser("repeatability", help="keypoints across detectors (D2D Table 5)")
    command.set_defaults(run=saliency.cross_repeatability, trains=False)
    add_dataset_options(command)
    add_feature_options(command, saliency.D2D_FEATURES)
    command.add_argument("--threshold", type=float, default=THRESHOLD, metavar="PX",
        help="farther apart, two points are not the same (default: %(default)g)")  # fmt: skip

    command = commands.add_parser("time", help="seconds an image, without decoding (D2D figure 5)")
    command.set_defaults(run=extraction_time, trains=False)
    command.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder, searched recursively")
    command.add_argument("--limit", type=positive, metavar="N", help="the first N images only (default: all)")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: outputs/<name of the folder>-time")
    command.add_argument("--latex", action="store_true", help="print the table as LaTeX")
    add_feature_options(command)

    command = commands.add_parser("posfeat-window", help="N_line x w_patch (PoSFeat Table 4)", allow_abbrev=False)
    command.set_defaults(run=posfeat.compare_windows, trains=True)
    _add_training_options(command)
    command.add_argument("--line-points", type=positive, nargs="+", default=list(posfeat.LINE_POINTS), metavar="N",
        help="default: 75 100 125")  # fmt: skip
    command.add_argument("--windows", type=float, nargs="+", default=list(posfeat.WINDOWS), metavar="W",
        help="parts of the image (default: 0.075 0.1 0.125)")  # fmt: skip

    command = commands.add_parser("posfeat-models", help="Models 1 to 8 (PoSFeat figure 7)", allow_abbrev=False)
    command.set_defaults(run=posfeat.compare_models, trains=True)
    _add_training_options(command)
    return parser


def _add_training_options(command: argparse.ArgumentParser) -> None:
    add_dataset_options(command)
    add_matching_options(command)
    add = command.add_argument
    add(
        "--init", metavar="FILE|DIR", help="what description and joint training start from, as pipelines.train takes it"
    )
    add("--steps", type=positive, default=100_000, metavar="N", help="of description and joint runs (default: 100000)")
    add("--detect-steps", type=positive, metavar="N", help="of detection runs (default: a twentieth, as in the paper)")
    add("--dry-run", action="store_true", help="print the commands of pipelines.train and do nothing")


if __name__ == "__main__":
    sys.exit(main())
