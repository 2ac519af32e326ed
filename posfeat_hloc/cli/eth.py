"""Structure from motion statistics, features side by side: ETH local feature benchmark and Strecha folders.

    posfeat-hloc eth --dataset Fountain --features d2d-hardnet sift
    posfeat-hloc eth --dataset strecha --features d2d-hardnet --max-keypoints 20480 --camera single
    posfeat-hloc eth --dataset strecha --features d2d-hardnet d2d-hardnet:resize_max=3072

The options of sfm hold for all reconstructions. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.evaluation.options import EthOptions
from posfeat_hloc.sfm.options import SfmOptions

_NOT_OF_ALL = ("feature", "weights", "image_list", "demo", "video", "frames", "motion")
"""Options of a single reconstruction."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the comparison, and those of a reconstruction."""
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DIR", help="a set (DIR/images), or a folder of sets")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-eth)")
    add("--latex", action="store_true", help="print the table as LaTeX (it is written to eth.tex in any case)")
    add_quiet(parser)
    parser.allow_abbrev = False  # --feature is not --features
    add_options(parser, EthOptions)
    add_options(parser, SfmOptions, leave_out=_NOT_OF_ALL)


def run(args: argparse.Namespace) -> bool:
    """Compare, and print the table; whether every reconstruction has a model."""
    from posfeat_hloc.evaluation.eth import evaluate_eth

    output = args.output or Path("outputs") / f"{args.dataset.resolve().name}-eth"
    result = evaluate_eth(
        args.dataset, output, chosen(args, EthOptions), chosen(args, SfmOptions, weights=None), reporter_of(args)
    )
    print(f"\n{result.table.as_latex() if args.latex else result.table.as_text()}\n")
    print("\n".join([*result.notes, f"files: {output}/ eth.csv eth.tex"]))
    return result.complete
