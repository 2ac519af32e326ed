"""Relative pose from matches, features side by side: AUC at 5, 10 and 20 degrees on a list of posed image pairs.

    posfeat-hloc relative-pose --pairs yfcc_test_pairs_with_gt.txt --images yfcc --features d2d-hardnet sift

Lists are written as SuperGlue's (text) or MegaDepth-1500's (scene_info .npz, several at once). The error of a pair is
the larger of the angles of rotation and of the direction of translation. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.evaluation.options import ESTIMATORS, RelativePoseOptions

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.relative_pose import RelativePoseResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The lists and the features."""
    add = parser.add_argument
    add("--pairs", type=Path, nargs="+", required=True, metavar="FILE", help="lists with intrinsics and poses")
    add("--images", type=Path, required=True, metavar="DIR", help="folder that the names in the lists are relative to")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the first list>-pose)")
    add("--latex", action="store_true", help="print the table as LaTeX (it is written to pose.tex in any case)")
    add_quiet(parser)
    add_options(parser, RelativePoseOptions)


def run(args: argparse.Namespace) -> bool:
    """Measure, and print the table."""
    from posfeat_hloc.evaluation.relative_pose import evaluate_relative_pose

    output = args.output or Path("outputs") / f"{args.pairs[0].stem}-pose"
    options = chosen(args, RelativePoseOptions)
    result = evaluate_relative_pose(args.pairs, args.images, output, options, reporter_of(args))
    print("\n".join(_report(args, result, output)))
    return True


def _report(args: argparse.Namespace, result: RelativePoseResult, output: Path) -> list[str]:
    """What the terminal says."""
    options = chosen(args, RelativePoseOptions)
    estimator = f"{ESTIMATORS[options.estimator]}, {options.threshold:g} px, seed {options.seed}"
    lines = ["", f"{len(result.usable)} of {len(result.pairs)} pairs, pose by {estimator}", ""]
    lines += [result.table.as_latex() if args.latex else result.table.as_text(), ""]
    lines += [f"not used: {why}" for why in result.skipped.values()]
    if turned := sum(any(pair.turns) for pair in result.usable):
        lines.append(
            f"{turned} pairs are marked as turned in the list: images are turned as their EXIF tag says, not as the "
            "list says; intrinsics and poses refer to the files as stored in either case"
        )
    lines.append(f"files: {output}/ pose.csv pose.tex pairs.csv")
    return lines
