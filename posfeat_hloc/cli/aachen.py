"""Aachen Day-Night, and small data sets in its files."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from posfeat_hloc.aachen.options import AachenOptions, MiniatureOptions
from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.report import add_report_option, write_page
from posfeat_hloc.cli.summary import Summary, recorded


class Aachen:
    """Aachen Day-Night, from the folder of the data set to the file for visuallocalization.net.

        posfeat-hloc aachen --feature posfeat-small --dataset aachen_v1.1

    Two protocols: hloc (day and night) and challenge (the local feature challenge; night). Versions and folder layouts
    are found out. Run the same command again to resume; --dry-run checks the data set and says how long it will take.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The data set and how it is run."""
        add = parser.add_argument
        add("--dataset", type=Path, default=Path("datasets/aachen"), metavar="DIR", help="default: %(default)s")
        add("--output", type=Path, metavar="DIR",
            help="folder of results (default: outputs/aachen-<version>-<protocol>-<feature>)")  # fmt: skip
        add("--dry-run", action="store_true", help="check the data set and estimate time and disk; writes nothing")
        add_quiet(parser)
        add_report_option(parser)
        add_options(parser, AachenOptions, common=("feature", "protocol", "neighbors", "repeat", "ground_truth"))

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Run a protocol and print the summary; complete if queries were localized, or a dry run found no problem."""
        from posfeat_hloc.aachen.pipeline import as_table, default_output, estimate_aachen, run_aachen

        options = chosen(args, AachenOptions)
        if args.dry_run:
            dataset, steps = estimate_aachen(args.dataset, options)
            text = (
                f"{dataset.root}: complete Aachen {dataset.version}, {dataset.protocol} protocol with "
                f"{options.feature}: "
                f"{len(dataset.database_names)} database images, {len(dataset.query_names)} queries"
            )
            data = {
                "dataset": str(dataset.root),
                "version": dataset.version,
                "protocol": dataset.protocol,
                "steps": steps,
            }
            return Summary(f"{text}\n{as_table(steps)}", data)
        report = run_aachen(args.dataset, args.output, options, reporter_of(args))
        output = args.output or default_output(report.dataset, options)
        page, line = write_page(output, args)
        text = f"{report.as_text()}\n  details             {output / 'summary.json'}{line}"
        return Summary(text, recorded(output) | page, any(trial.localized for trial in report.trials))


class MiniatureAachen:
    """Make a small data set in the files of Aachen Day-Night v1 and v1.1, with true poses of its queries.

        posfeat-hloc miniature-aachen --output miniature
        posfeat-hloc miniature-aachen --output held_out --from-model sparse/0 photos

    The first is a rendered town square in metres, its night queries darkened, blurred and noisy; the second takes
    photographs with a COLMAP model and holds some out as queries. ``ground_truth.txt`` has the poses of the queries.
    """

    RESUME = "delete the folder and run the command again"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """What is made, and of what."""
        add = parser.add_argument
        add("--output", type=Path, required=True, metavar="DIR", help="a new folder")
        add("--from-model", type=Path, nargs=2, metavar=("MODEL", "IMAGES"),
            help="hold out images of a COLMAP model instead of rendering")  # fmt: skip
        add(
            "--every", type=int, default=4, metavar="N", help="with --from-model: which image is a query (default: 4th)"
        )
        add("--photos", type=Path, metavar="DIR", help="photographs for the textures (default: painted)")
        add_options(parser, MiniatureOptions, leave_out=("points",))
        add_quiet(parser)

    @staticmethod
    def run(args: argparse.Namespace) -> Summary:
        """Make the data set and print how to run the benchmark on it.

        Raises:
            PosfeatError: for anything a user can fix.
        """
        from posfeat_hloc.aachen.miniature import TRUTH, hold_out, make_miniature

        command = f"posfeat-hloc aachen --feature posfeat-small --dataset {shlex.quote(str(args.output))}"
        command += f" --ground-truth {shlex.quote(str(args.output / TRUTH))}"
        if args.from_model is not None:
            model, images = args.from_model
            queries, size = hold_out(args.output, model, images, args.every, args.seed, args.layout)
            command += " --thresholds '" + " ".join(f"{part * size:.3g},{angle}" for part, angle in _OF_THE_SCENE) + "'"
            print(f"the cameras are spread over {size:.3g} units; 1 %, 2 % and 5 % of it are the thresholds below")
        else:
            options = chosen(args, MiniatureOptions)
            queries = make_miniature(args.output, options, args.photos, progress=reporter_of(args).progress)
        text = f"{args.output}: {len(queries)} queries with known poses; run\n  {command}"
        return Summary(text, {"output": args.output, "queries": len(queries), "command": command})


_OF_THE_SCENE = ((0.01, 1), (0.02, 2), (0.05, 5))  # part of the scene's size, degrees
