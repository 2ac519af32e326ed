"""Localize photographs in a map: features, pairs, matches, poses.

    posfeat-hloc localize --map outputs/museum --queries new_photos

The map is an output of sfm, or a COLMAP model with --map-features. Nothing is written to it. Run the same command again
to resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, flag, reporter_of
from posfeat_hloc.cli.report import add_report_option, write_page
from posfeat_hloc.cli.summary import Summary, recorded
from posfeat_hloc.errors import Option
from posfeat_hloc.localization.options import LocalizationOptions
from posfeat_hloc.runtime.reporter import entry, listing

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.options import Threshold
    from posfeat_hloc.localization.pipeline import LocalizationResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The map, the queries and how they are localized."""
    add = parser.add_argument
    add("--map", type=Path, required=True, metavar="DIR", help="output folder of sfm, or a COLMAP model")
    add("--queries", nargs="+", required=True, metavar="FILE|DIR",
        help="lists 'name MODEL width height params...' (COLMAP's convention) or with a name a line, photographs, a "
        "pattern of such files, or a folder; focal lengths that are not given come from EXIF or are estimated"
        )  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<map>-<queries>)")
    add_options(parser, LocalizationOptions, common=("images", "masks", "neighbors", "ground_truth"))
    add_quiet(parser)
    add_report_option(parser)


def prepare(args: argparse.Namespace) -> None:
    """Name the folder of the results."""
    first = Path(args.queries[0])
    name = first.resolve().stem if first.exists() else "queries"
    args.output = args.output or Path("outputs") / f"{args.map.resolve().name}-{name}"


def run(args: argparse.Namespace) -> Summary:
    """Localize and print the summary; whether a query was localized."""
    from posfeat_hloc.localization.pipeline import localize

    options = chosen(args, LocalizationOptions)
    result = localize(args.map, args.queries, args.output, options, reporter_of(args))
    page, line = write_page(args.output, args)
    text = as_text(result, options.thresholds, args.output) + line
    return Summary(text, recorded(args.output) | page, result.localized > 0)


def as_text(run: LocalizationResult, thresholds: tuple[Threshold, ...], output: Path) -> str:
    """The summary as the terminal shows it."""
    from posfeat_hloc.localization.pipeline import errors_as_json
    from posfeat_hloc.localization.pipeline import middle as median_of

    lines = ["", f"{run.localized} of {run.queries} queries localized with {run.feature}"]
    lines += entry("map", f"{run.map.path}: {len(run.map.names)} images")
    lines += entry(
        "median matches", f"{median_of(run, 'matches'):g} with 3D points, {median_of(run, 'inliers'):g} inliers"
    )
    if rotated := sum(result.rotation > 0 for result in run.results.values()):
        lines += entry("rotated", f"{rotated} queries, whose orientation differs from that of the map's images")
    if run.errors is not None:
        found = errors_as_json(run.errors, thresholds)
        position, rotation = found["median_position"], found["median_rotation"]
        middle = f"{position:.4g}, {rotation:.3g}°" if position is not None else "none: most are not localized"
        lines += entry("median error", f"{middle} ({found['queries']} queries with known pose)")
        shares = ", ".join(f"{r['recall']:.1%} within {r['position']:g}, {r['rotation']:g}°" for r in found["recall"])
        lines += entry("recall", shares)
    lines += entry("time", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in run.seconds.items()))
    lines += listing("not localized", run.failures)
    if run.rotated_query is not None:
        name, degrees = run.rotated_query
        cause = f"rotated photographs: {name} is localized after a rotation by {degrees} degrees; add "
        lines += entry("likely cause", cause + flag(Option("try_rotations")))
    lines += entry("poses", str(output / "poses.txt"))
    lines += entry("details", f"{output / 'queries.jsonl'}, {output / 'summary.json'}")
    return "\n".join(lines)
