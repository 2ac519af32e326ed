"""Matching accuracy under known homographies, features side by side: HPatches and Oxford-affine folders.

    posfeat-hloc hpatches --dataset hpatches-sequences-release --features d2d-hardnet sift

Protocol of D2-Net, D2D and PoSFeat: image 1 against 2..6, mutual nearest neighbours, error of the forward homography,
accuracy averaged over pairs; 108 of HPatches' 116 sequences. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.page import add_report_option, write_page
from posfeat_hloc.evaluation.options import HPatchesOptions

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.hpatches import HPatchesResult

_NAMED = 5  # of the sequences that are missing


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--output``, ``--latex`` and ``--quiet``."""
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DIR",
        help="folder of sequences: HPatches, Oxford affine, or both")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-mma)")
    add("--latex", action="store_true", help="print the table as LaTeX (a .tex file is written in any case)")
    add_quiet(parser)


def results_folder(args: argparse.Namespace) -> Path:
    """Where results go."""
    given: Path | None = args.output
    return given or Path("outputs") / f"{args.dataset.resolve().name}-mma"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sequences and the features."""
    add_dataset(parser)
    add_options(parser, HPatchesOptions)
    add_report_option(parser)


def run(args: argparse.Namespace) -> bool:
    """Measure, and print the tables."""
    from posfeat_hloc.evaluation.hpatches import evaluate_hpatches

    output = results_folder(args)
    result = evaluate_hpatches(args.dataset, output, chosen(args, HPatchesOptions), reporter_of(args))
    print("\n".join(_report(args, result, output)))
    write_page(output, args)
    return True


def _report(args: argparse.Namespace, result: HPatchesResult, output: Path) -> list[str]:
    """What the terminal says."""
    found = result.found
    lines = ["", f"{len(found.sequences)} sequences of {args.dataset}, matched with {args.matcher}", ""]
    lines += [result.table.as_latex() if args.latex else result.table.as_text(), ""]
    if len(found.sequences) <= 8 and not args.latex:
        lines += ["MMAscore by sequence", "", result.sequences.as_text(), ""]
    for label, measured in result.results.items():
        if measured.without_matches:
            lines.append(f"{label}: {measured.without_matches} pairs without a match count as accuracy 0")
    if found.left_out:
        lines.append(f"left out by the protocol ({len(found.left_out)}): {', '.join(found.left_out)}")
    if found.absent:
        names = ", ".join(found.absent[:_NAMED]) + (", ..." if len(found.absent) > _NAMED else "")
        lines.append(f"not in this folder: {len(found.absent)} of the protocol's 108 ({names}; all in summary.json)")
    lines += [f"not used: {name}: {why}" for name, why in found.unusable.items()]
    if not found.is_hpatches:
        lines.append("published curves are of HPatches and not shown beside other images")
    lines.append(
        f"files: {output}/ mma.csv mma.tex curves.csv sequences.csv sequences.tex{'' if result.undrawn else ' mma.png'}"
    )
    if result.undrawn:
        lines.append(f"no plot was drawn (mma.png): {result.undrawn}")
    return lines
