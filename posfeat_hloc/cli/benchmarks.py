"""Benchmarks of features: homographies, relative poses, reconstructions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.report import add_report_option, write_page
from posfeat_hloc.cli.summary import Summary, recorded
from posfeat_hloc.evaluation.options import ESTIMATORS, EthOptions, HPatchesOptions, RelativePoseOptions
from posfeat_hloc.sfm.options import SfmOptions

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.hpatches import HPatchesResult
    from posfeat_hloc.evaluation.relative_pose import RelativePoseResult


class Hpatches:
    """Matching accuracy under known homographies, features side by side: HPatches and the like.

        posfeat-hloc hpatches --dataset hpatches-sequences-release --features d2d-hardnet sift
        posfeat-hloc hpatches --dataset webcams --fixed-camera --features posfeat-small sift

    Protocol of D2-Net, D2D and PoSFeat: image 1 against 2..6, mutual nearest neighbours, error of the forward
    homography, accuracy averaged over pairs; 108 of HPatches' 116 sequences. Run the same command again to resume.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The sequences and the features."""
        add_dataset(parser)
        add_options(parser, HPatchesOptions)
        add_report_option(parser)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Measure, and print the tables."""
        from posfeat_hloc.evaluation.hpatches import evaluate_hpatches

        output = results_folder(args)
        result = evaluate_hpatches(args.dataset, output, chosen(args, HPatchesOptions), reporter_of(args))
        page, line = write_page(output, args)
        tables = {"table": result.table.as_records(), "sequences": result.sequences.as_records()}
        return Summary("\n".join(_report(args, result, output)) + line, recorded(output) | tables | page)


_NAMED = 5  # of the sequences that are missing


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--output``, ``--latex`` and ``--quiet``."""
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DIR",
        help="folder of sequences: HPatches, Oxford affine, or both; EVD; Homogr")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-mma)")
    add("--latex", action="store_true", help="print the table as LaTeX (a .tex file is written in any case)")
    add_quiet(parser)


def results_folder(args: argparse.Namespace) -> Path:
    """Where results go."""
    given: Path | None = args.output
    return given or Path("outputs") / f"{args.dataset.resolve().name}-mma"


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


class RelativePose:
    """Relative pose from matches, features side by side: AUC at 5, 10 and 20 degrees on a list of posed image pairs.

        posfeat-hloc relative-pose --pairs yfcc_test_pairs_with_gt.txt --images yfcc --features d2d-hardnet sift

    Lists are written as SuperGlue's (text) or MegaDepth-1500's (scene_info .npz, several at once). The error of a pair
    is the larger of the angles of rotation and of the direction of translation. Run the same command again to resume.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The lists and the features."""
        add = parser.add_argument
        add("--pairs", type=Path, nargs="+", required=True, metavar="FILE", help="lists with intrinsics and poses")
        add(
            "--images",
            type=Path,
            required=True,
            metavar="DIR",
            help="folder that the names in the lists are relative to",
        )
        add(
            "--output",
            type=Path,
            metavar="DIR",
            help="folder of results (default: outputs/<name of the first list>-pose)",
        )
        add("--latex", action="store_true", help="print the table as LaTeX (it is written to pose.tex in any case)")
        add_quiet(parser)
        add_options(parser, RelativePoseOptions)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Measure, and print the table."""
        from posfeat_hloc.evaluation.relative_pose import evaluate_relative_pose

        output = args.output or Path("outputs") / f"{args.pairs[0].stem}-pose"
        options = chosen(args, RelativePoseOptions)
        result = evaluate_relative_pose(args.pairs, args.images, output, options, reporter_of(args))
        data = {"output": output, "pairs": len(result.pairs), "usable": len(result.usable), "skipped": result.skipped}
        text = "\n".join(_pose_report(args, result, output))
        return Summary(text, data | {"table": result.table.as_records()})


def _pose_report(args: argparse.Namespace, result: RelativePoseResult, output: Path) -> list[str]:
    """What the terminal says."""
    options = chosen(args, RelativePoseOptions)
    estimator = f"{ESTIMATORS[options.estimator]}, {options.threshold:g} px, seed {options.seed}"
    lines = ["", f"{len(result.usable)} of {len(result.pairs)} pairs, pose by {estimator}", ""]
    lines += [result.table.as_latex() if args.latex else result.table.as_text(), ""]
    lines += [f"not used: {why}" for why in result.skipped.values()]
    if turned := sum(any(pair.turns) for pair in result.usable):
        lines.append(
            f"{turned} pairs are marked as rotated in the list: images are rotated by their EXIF tag, not as the "
            "list says; intrinsics and poses refer to the files as stored in either case"
        )
    lines.append(f"files: {output}/ pose.csv pose.tex pairs.csv")
    return lines


class Eth:
    """Structure from motion statistics, features side by side: ETH local feature benchmark and Strecha folders.

        posfeat-hloc eth --dataset Fountain --features d2d-hardnet sift
        posfeat-hloc eth --dataset strecha --features d2d-hardnet --max-keypoints 20480 --camera single
        posfeat-hloc eth --dataset strecha --features d2d-hardnet d2d-hardnet:resize_max=3072

    The options of sfm hold for all reconstructions. Run the same command again to resume.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of the comparison, and those of a reconstruction."""
        add = parser.add_argument
        add("--dataset", type=Path, required=True, metavar="DIR", help="a set (DIR/images), or a folder of sets")
        add(
            "--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-eth)"
        )
        add("--latex", action="store_true", help="print the table as LaTeX (it is written to eth.tex in any case)")
        add_quiet(parser)
        parser.allow_abbrev = False  # --feature is not --features
        add_options(parser, EthOptions)
        add_options(parser, SfmOptions, leave_out=_NOT_OF_ALL, common=("max_size", "max_keypoints", "camera"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Compare, and print the table; whether every reconstruction has a model."""
        from posfeat_hloc.evaluation.eth import evaluate_eth

        output = args.output or Path("outputs") / f"{args.dataset.resolve().name}-eth"
        result = evaluate_eth(
            args.dataset, output, chosen(args, EthOptions), chosen(args, SfmOptions, weights=None), reporter_of(args)
        )
        table = result.table.as_latex() if args.latex else result.table.as_text()
        text = "\n".join(["", table, "", *result.notes, f"files: {output}/ eth.csv eth.tex"])
        data = {"output": output, "table": result.table.as_records(), "notes": result.notes}
        return Summary(text, data, result.complete)


_NOT_OF_ALL = ("feature", "weights", "image_list", "demo", "video", "frames", "motion")
"""Options of a single reconstruction."""
