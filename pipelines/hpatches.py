"""Matching accuracy under known homographies, features side by side: HPatches and Oxford-affine folders.

    python -m pipelines.hpatches --dataset hpatches-sequences-release --features d2d-hardnet sift

Protocol of D2-Net, D2D and PoSFeat: image 1 against 2..6, mutual nearest neighbours, error of the forward homography,
accuracy averaged over pairs; 108 of HPatches' 116 sequences. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.argument_types import add_feature_options
from posfeat_hloc import __version__, confs
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.cli.page import add_report_option, write_page
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.feature_files import feature_file
from posfeat_hloc.evaluation.homography import THRESHOLDS, mma_score
from posfeat_hloc.evaluation.mma import GROUPS, MmaResult, evaluate_mma
from posfeat_hloc.evaluation.plots import plot_mma
from posfeat_hloc.evaluation.published import MMA_SOURCE, published_mma
from posfeat_hloc.evaluation.sequences import SequenceSet, find_sequences
from posfeat_hloc.evaluation.tables import Column, Table, Value
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.runtime.output import write_atomically
from posfeat_hloc.runtime.skipped import counted

HERE = "measured here"
_NAMED = 5  # of the sequences that are missing


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 when there is a table."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: hpatches(args), args.output, "run the same command again to go on from here")


def hpatches(args: argparse.Namespace) -> bool:
    """Measure all features, write tables and plot, print them.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    found = find_sequences(args.dataset)
    choices = choose_features(args.features, args.weights)
    published = _published(args.published, found)
    output = results_folder(args)
    results = measure_features(args, choices, found, output)
    table, each = summary_table(results, published), sequence_table(results)
    table.write(output, "mma")
    each.write(output, "sequences")
    (output / "curves.csv").write_text(curve_table(results, published).as_csv(), encoding="utf-8")
    undrawn = plot_mma(output / "mma.png", results, published, f"{args.dataset.resolve().name}, {_count(found)}")
    write_atomically(output / "summary.json", json.dumps(_summary(args, found), indent=2, ensure_ascii=False) + "\n")
    print("\n".join(_report(args, found, results, table, each, output, undrawn)))
    write_page(output, args)
    return True


def results_folder(args: argparse.Namespace) -> Path:
    """Where results go; made when it is missing."""
    output: Path = args.output or Path("outputs") / f"{args.dataset.resolve().name}-mma"
    output.mkdir(parents=True, exist_ok=True)
    return output


def measure_features(
    args: argparse.Namespace, choices: Sequence[FeatureChoice], found: SequenceSet, output: Path
) -> dict[str, MmaResult]:
    """Label -> accuracy of each feature, extracted and matched where an earlier run did not do it.

    Args:
        args: the options of :func:`add_dataset_options` and of :func:`pipelines.argument_types.add_feature_options`.
        choices: features.
        found: sequences; those with an unreadable image are taken out.
        output: folder for ``features/`` and ``measured/``.
    """
    extracted = extract_sequences(args, choices, found, output)
    return {choice.label: _evaluate(args, choice, extracted[choice.label], found, output) for choice in choices}


def extract_sequences(
    args: argparse.Namespace, choices: Sequence[FeatureChoice], found: SequenceSet, output: Path
) -> dict[str, Path]:
    """Label -> feature file; sequences with an unreadable image are taken out of ``found``."""
    names = [name for sequence in found.sequences for name in sequence.images]
    files: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for choice in choices:
        progress = not args.quiet
        files[choice.label], reasons = feature_file(
            choice, args.dataset, names, output / "features", args.device, progress
        )
        skipped |= reasons
    _drop_unreadable(found, skipped)
    return files


def _published(wanted: Sequence[str] | None, found: SequenceSet) -> dict[str, MmaResult]:
    """Published curves are of HPatches, so they are shown beside HPatches only."""
    known = published_mma()
    if unknown := [name for name in wanted or () if name not in known]:
        raise ConfigurationError(f"--published: {unknown[0]!r} has no curve; there are {', '.join(known)}")
    if not found.is_hpatches:
        return {}
    return known if wanted is None else {name: known[name] for name in wanted}


def _drop_unreadable(found: SequenceSet, skipped: Mapping[str, str]) -> None:
    """Take sequences with an unreadable image out, for every feature, so that all rows are of the same pairs."""
    for name, why in skipped.items():
        found.unusable[name.partition("/")[0]] = why
    found.sequences = [sequence for sequence in found.sequences if sequence.name not in found.unusable]
    if not found.sequences:
        raise ConfigurationError(f"no sequence has six readable images ({counted(found.unusable)})")


def _evaluate(
    args: argparse.Namespace, choice: FeatureChoice, file: Path, found: SequenceSet, output: Path
) -> MmaResult:
    matcher = confs.matchers[args.matcher]["model"]
    record = output / "measured" / f"{choice.stem}.jsonl"
    return evaluate_mma(
        file, found.sequences, matcher, record, args.top_k, args.device, choice.label, progress=not args.quiet
    )


def summary_table(results: Mapping[str, MmaResult], published: Mapping[str, MmaResult]) -> Table:
    """A row for each feature: MMAscore by group, MMA at 1, 3, 5 and 10 px, keypoints, mutual matches, their ratio."""
    at = (1, 3, 5, 10)
    table = Table(
        [
            Column("feature"), Column("numbers"),
            Column("MMAscore", ".3f"), Column("illumination", ".3f"), Column("viewpoint", ".3f"),
            *(Column(f"MMA@{t}", ".3f") for t in at),
            Column("keypoints", ".0f"), Column("matches", ".0f"), Column("ratio", ".3f"),
        ]
    )  # fmt: skip
    for source, rows in ((HERE, results), (MMA_SOURCE, published)):
        for name, result in rows.items():
            scores = [result.score(group) for group in GROUPS]
            accuracy = [float(result.curves["overall"][t - 1]) for t in at]
            table.rows.append([name, source, *scores, *accuracy, result.keypoints, result.matches, result.ratio])
    return table


def sequence_table(results: Mapping[str, MmaResult]) -> Table:
    """MMAscore of each sequence (rows) and feature (columns)."""
    names = list(next(iter(results.values())).sequences)
    rows: list[Sequence[Value]] = [[n, *(mma_score(result.sequences[n]) for result in results.values())] for n in names]
    return Table([Column("sequence"), *(Column(label, ".3f") for label in results)], rows)


def curve_table(results: Mapping[str, MmaResult], published: Mapping[str, MmaResult]) -> Table:
    """MMA at each threshold, a row for each feature and threshold."""
    table = Table([Column(t) for t in ("feature", "numbers", "threshold_px", *GROUPS, "keypoints", "matches")])
    for source, rows in ((HERE, results), (MMA_SOURCE, published)):
        for name, result in rows.items():
            for i, threshold in enumerate(THRESHOLDS.tolist()):
                curves = [float(result.curves[g][i]) if g in result.curves else None for g in GROUPS]
                table.rows.append([name, source, threshold, *curves, result.keypoints, result.matches])
    return table


def _summary(args: argparse.Namespace, found: SequenceSet) -> dict[str, Any]:
    """What was measured and how, for ``summary.json``; the numbers are in the tables."""
    return {
        "sequences": [sequence.name for sequence in found.sequences],
        "unusable": found.unusable,
        "absent": found.absent,
        "command": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "versions": {"posfeat_hloc": __version__, "python": platform.python_version()},
    }


def _count(found: SequenceSet) -> str:
    return f"{len(found.sequences)} sequences"


def _report(
    args: argparse.Namespace,
    found: SequenceSet,
    results: Mapping[str, MmaResult],
    table: Table,
    each: Table,
    output: Path,
    undrawn: str,
) -> list[str]:
    """What the terminal says."""
    lines = ["", f"{_count(found)} of {args.dataset}, matched with {args.matcher}", ""]
    lines += [table.as_latex() if args.latex else table.as_text(), ""]
    if len(found.sequences) <= 8 and not args.latex:
        lines += ["MMAscore by sequence", "", each.as_text(), ""]
    for label, result in results.items():
        if result.without_matches:
            lines.append(f"{label}: {result.without_matches} pairs without a match count as accuracy 0")
    if found.left_out:
        lines.append(f"left out by the protocol ({len(found.left_out)}): {', '.join(found.left_out)}")
    if found.absent:
        names = ", ".join(found.absent[:_NAMED]) + (", ..." if len(found.absent) > _NAMED else "")
        lines.append(f"not in this folder: {len(found.absent)} of the protocol's 108 ({names}; all in summary.json)")
    lines += [f"not used: {name}: {why}" for name, why in found.unusable.items()]
    if not found.is_hpatches:
        lines.append("published curves are of HPatches and not shown beside other images")
    lines.append(
        f"files: {output}/ mma.csv mma.tex curves.csv sequences.csv sequences.tex{'' if undrawn else ' mma.png'}"
    )
    if undrawn:
        lines.append(f"no plot was drawn (mma.png): {undrawn}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.hpatches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_dataset_options(parser)
    parser.add_argument("--published", nargs="*", metavar="METHOD",
        help="published curves to show beside HPatches (default: all; give no name for none)")  # fmt: skip
    add_feature_options(parser)
    add_report_option(parser)
    return parser


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--matcher``, ``--output`` and ``--latex``."""
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DIR",
        help="folder of sequences: HPatches, Oxford affine, or both")  # fmt: skip
    add("--matcher", choices=list(confs.matchers), default="NN-mutual", help="default: %(default)s, the protocol's")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-mma)")
    add("--latex", action="store_true", help="print the table as LaTeX (a .tex file is written in any case)")


if __name__ == "__main__":
    sys.exit(main())
