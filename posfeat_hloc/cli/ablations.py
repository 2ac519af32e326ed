"""The ablations of both papers, one command each.

    posfeat-hloc ablations d2d-terms     --dataset hpatches-sequences-release   # D2D Table 3
    posfeat-hloc ablations d2d-radius    --dataset hpatches-sequences-release   # D2D figure 7
    posfeat-hloc ablations repeatability --dataset hpatches-sequences-release   # D2D Table 5
    posfeat-hloc ablations time          --images photos                        # D2D figure 5
    posfeat-hloc ablations posfeat-window --dataset DIR --steps 1000 --data colmap:scene   # PoSFeat Table 4
    posfeat-hloc ablations posfeat-models --dataset DIR --steps 1000 --data colmap:scene   # PoSFeat figure 7

The last two train first, with the options of train. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, positive, reporter_of, words_of
from posfeat_hloc.cli.benchmarks import add_dataset, results_folder
from posfeat_hloc.cli.summary import Summary
from posfeat_hloc.cli.train import add_data
from posfeat_hloc.evaluation.options import D2D_FEATURES, LINE_POINTS, RADII, WINDOWS, HPatchesOptions, TimedOptions
from posfeat_hloc.training.options import TrainingOptions

if TYPE_CHECKING:
    from posfeat_hloc.evaluation.d2d_ablations import Ablation, Comparison
    from posfeat_hloc.evaluation.posfeat_ablations import Runs, Training

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_SET_HERE = ("stage", "search", "steps", "weights", "device", "set")
"""Options of train that differ between the runs or are offered below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A parser for each ablation."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _d2d(commands, "d2d-terms", "S_AS, S_RS and both (D2D Table 3)")
    command.set_defaults(action=_terms)
    command = _d2d(commands, "d2d-radius", "window of S_RS (D2D figure 7)")
    command.set_defaults(action=_radius)
    command.add_argument("--radii", type=positive, nargs="+", default=RADII, metavar="CELLS",
        help="r_RS in cells of the map (default: 1 3 5 7 10)")  # fmt: skip
    command = _d2d(commands, "repeatability", "keypoints across detectors (D2D Table 5)")
    command.set_defaults(action=_repeatability)
    command.add_argument("--threshold", type=float, default=3.0, metavar="PX",
        help="maximum distance of corresponding keypoints (default: %(default)g)")  # fmt: skip

    command = commands.add_parser("time", help="seconds per image, without decoding (D2D figure 5)")
    command.set_defaults(action=_time)
    command.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder, searched recursively")
    command.add_argument("--limit", type=positive, metavar="N", help="the first N images only (default: all)")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: outputs/<name of the folder>-time")
    command.add_argument("--latex", action="store_true", help="print the table as LaTeX")
    add_quiet(command)
    add_options(command, TimedOptions)

    command = _posfeat(commands, "posfeat-window", "N_line x w_patch (PoSFeat Table 4)", ("line_points", "window"))
    command.set_defaults(action=_windows)
    command.add_argument("--line-points", dest="all_line_points", type=positive, nargs="+", default=LINE_POINTS,
        metavar="N", help="default: 75 100 125")  # fmt: skip
    command.add_argument("--windows", type=float, nargs="+", default=WINDOWS, metavar="W",
        help="fractions of the image size (default: 0.075 0.1 0.125)")  # fmt: skip
    command = _posfeat(commands, "posfeat-models", "Models 1 to 8 (PoSFeat figure 7)")
    command.set_defaults(action=_models)


def run(args: argparse.Namespace) -> Summary:
    """Measure; whether there is a table."""
    summary: Summary = args.action(args)
    return summary


def _d2d(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    add_dataset(command)
    add_options(command, HPatchesOptions, leave_out=("published",))
    command.set_defaults(features=D2D_FEATURES)
    return command


def _posfeat(commands: Commands, name: str, text: str, own: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, allow_abbrev=False)
    add_dataset(command)
    add_data(command)
    add = command.add_argument
    add(
        "--steps",
        type=positive,
        default=100_000,
        metavar="N",
        help="steps of description and joint runs (default: 100000)",
    )
    add(
        "--detect-steps",
        type=positive,
        metavar="N",
        help="steps of detection runs (default: a twentieth, as in the paper)",
    )
    add("--dry-run", action="store_true", help="print the commands of train and do nothing")
    add_options(command, HPatchesOptions, leave_out=("published", "features", "weights"))
    add_options(command, TrainingOptions, leave_out=(*_SET_HERE, *own), common=())
    return command


def _comparison(args: argparse.Namespace) -> Comparison:
    from posfeat_hloc.evaluation.d2d_ablations import Comparison

    options = chosen(args, HPatchesOptions)
    return Comparison(args.dataset, results_folder(args), options, reporter_of(args).progress)


def _terms(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.d2d_ablations import compare_terms

    return _show(args, compare_terms(_comparison(args)))


def _radius(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.d2d_ablations import sweep_radius

    return _show(args, sweep_radius(_comparison(args), args.radii))


def _repeatability(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.d2d_ablations import cross_repeatability

    return _show(args, cross_repeatability(_comparison(args), args.threshold))


def _time(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.extraction_time import time_extraction

    output = args.output or Path("outputs") / f"{args.images.resolve().name}-time"
    timed = time_extraction(args.images, output, chosen(args, TimedOptions), args.limit)
    table = timed.table.as_latex() if args.latex else timed.table.as_text()
    unread = [f"not used: {why}" for why in timed.unread.values()]
    text = "\n".join(["", table, "", timed.where, *unread, f"files: {output}/ time.csv time.tex seconds.csv"])
    return Summary(text, {"output": output, "table": timed.table.as_records(), "machine": timed.where})


def _runs(args: argparse.Namespace) -> Runs:
    from posfeat_hloc.evaluation.posfeat_ablations import Runs

    options = chosen(args, TrainingOptions, stage="describe", steps=args.steps, device=args.device)
    return Runs(_comparison(args), args.data, options, args.steps, args.detect_steps, reporter_of(args))


def _windows(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.posfeat_ablations import compare_windows, window_trainings

    runs = _runs(args)
    if args.dry_run:
        return _print_commands(runs, window_trainings(args.all_line_points, args.windows)[0])
    return _show(args, compare_windows(runs, args.all_line_points, args.windows))


def _models(args: argparse.Namespace) -> Summary:
    from posfeat_hloc.evaluation.posfeat_ablations import MODEL_TRAININGS, compare_models

    runs = _runs(args)
    return _print_commands(runs, MODEL_TRAININGS) if args.dry_run else _show(args, compare_models(runs))


def _print_commands(runs: Runs, trainings: Sequence[Training]) -> Summary:
    commands = []
    for training in trainings:
        words = ["--data", *runs.data, "--output", str(runs.folder / training.name)]
        words += words_of(runs.options_of(training))
        commands.append(f"posfeat-hloc train {shlex.join(words)}")
    return Summary("\n\n".join(commands), {"commands": commands})


def _show(args: argparse.Namespace, made: Ablation) -> Summary:
    table = made.table.as_latex() if args.latex else made.table.as_text()
    text = "\n".join(["", table, "", *made.notes, f"files: {results_folder(args)}/ {made.files}"])
    data = {"output": results_folder(args), "table": made.table.as_records(), "notes": made.notes}
    return Summary(text, data, bool(made.table.rows))
