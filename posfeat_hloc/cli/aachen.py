"""Aachen Day-Night, from the folder of the data set to the file for visuallocalization.net.

    posfeat-hloc aachen --feature posfeat-small --dataset aachen_v1.1

Two protocols: hloc (day and night) and challenge (the local feature challenge; night). Versions and folder layouts are
found out. Run the same command again to resume; --dry-run checks the data set and says how long it will take.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.aachen.options import AachenOptions
from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.page import add_report_option, write_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data set and how it is run."""
    add = parser.add_argument
    add("--dataset", type=Path, default=Path("datasets/aachen"), metavar="DIR", help="default: %(default)s")
    add("--output", type=Path, metavar="DIR",
        help="folder of results (default: outputs/aachen-<version>-<protocol>-<feature>)")  # fmt: skip
    add("--dry-run", action="store_true", help="check the data set and estimate time and disk; writes nothing")
    add_quiet(parser)
    add_report_option(parser)
    add_options(parser, AachenOptions)


def run(args: argparse.Namespace) -> bool:
    """Run a protocol and print the summary; whether queries were localized, or a dry run found no fault."""
    from posfeat_hloc.aachen.pipeline import as_table, default_output, estimate_aachen, run_aachen

    options = chosen(args, AachenOptions)
    if args.dry_run:
        dataset, steps = estimate_aachen(args.dataset, options)
        print(
            f"{dataset.root}: complete Aachen {dataset.version}, {dataset.protocol} protocol with {options.feature}: "
            f"{len(dataset.database_names)} database images, {len(dataset.query_names)} queries"
        )
        print(as_table(steps))
        return True
    report = run_aachen(args.dataset, args.output, options, reporter_of(args))
    output = args.output or default_output(report.dataset, options)
    print(report.as_text())
    print(f"  details             {output / 'summary.json'}")
    write_page(output, args)
    return any(trial.localized for trial in report.trials)
