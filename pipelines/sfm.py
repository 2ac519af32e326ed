"""Reconstruct a folder of photographs: features, matches, verification, a COLMAP model.

    python -m pipelines.sfm --images photos
    python -m pipelines.sfm --video walk.mp4
    python -m pipelines.sfm --demo              (no photographs at hand)

Run the same command again to resume: finished images, pairs and stages are kept, and what changed (a photograph, an
option) is made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines import demo
from pipelines.coarse_to_fine import coarse_to_fine
from pipelines.colmap_log import send_colmap_log_to
from pipelines.report import write_page
from pipelines.sfm_cameras import choose_cameras, judge_cameras
from pipelines.sfm_inputs import check_images, gps_positions, list_names, open_inputs, orient, tell_georeference
from pipelines.sfm_options import Settings, complete, parser
from pipelines.sfm_pairs import add_frame_pairs, choose_pairs
from pipelines.sfm_stages import Job, all_at_once
from pipelines.sfm_start import choose_and_tell
from pipelines.summary import Run, as_json, as_text, counted
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.cluster import Cluster, connect
from posfeat_hloc.errors import ConfigurationError, PosfeatError
from posfeat_hloc.export import ExportOptions, export
from posfeat_hloc.extract_features import extract
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.output_inputs import claim
from posfeat_hloc.runtime.progress import waiting
from posfeat_hloc.sfm.diagnosis.diagnose import diagnose
from posfeat_hloc.sfm.georeference import read_georeference
from posfeat_hloc.sfm.gps import local_positions
from posfeat_hloc.sfm.rigs import frames_of


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 only when a model exists, and all that was wanted of it."""
    try:
        args = arguments(argv)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    resume = "run the same command again to go on from here"
    return exit_code(lambda: _succeeded(sfm(args)), args.output, resume)


def _succeeded(run: Run) -> bool:
    return bool(run.models) and not run.failed


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What :func:`sfm` takes, from a command line; for commands that make several reconstructions, too."""
    return complete(parser(__doc__).parse_args(argv))


def sfm(args: argparse.Namespace) -> Run:
    """Run all stages, print the summary and write ``summary.json``.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    Settings.of(args)
    if not (args.demo or args.video):
        check_images(args)
    cluster = connect(args.ray)
    with only_writer(args.output):
        photographs = [args.photos or args.images] if args.photos or not args.video else []
        claim(args.output, ["--demo"] if args.demo else [*(args.video or []), *photographs])
        run = _stages(args, cluster)
    print(as_text(run, args.feature, args.images, args.output))
    write_page(args.output, args)
    return run


def _stages(args: argparse.Namespace, cluster: Cluster | None) -> Run:
    """From images to models and ``summary.json``."""
    output: Path = args.output
    send_colmap_log_to(output / "logs")
    run = Run()
    truth = open_inputs(args, run)
    names = list_names(args, run)
    run.images = len(names)
    settings = choose_cameras(args, names, run)
    choose_and_tell(args, names, run)
    gps = gps_positions(args, names, run)
    positions = local_positions(gps) if args.gps or args.pairs == "gps" else None

    features = output / "features.h5"
    run.orientation = orient(args, settings, names, run, cluster)
    with run.stage("extract"):
        run.extraction = extract(
            settings.feature, args.images, features, names, args.device,
            progress=not args.quiet, masks=args.masks, cluster=cluster,
            views=run.orientation.views, exif=run.orientation.exif,
        )  # fmt: skip
    run.note_kept("extract", not run.extraction.extracted)
    usable = run.extraction.names
    if len(usable) < 2:
        reasons = counted(run.extraction.skipped)
        raise ConfigurationError(f"{args.images}: fewer than two images can be read ({reasons})")

    pairs = choose_pairs(args, usable, names, output, run, positions)
    if settings.rigs:
        pairs = add_frame_pairs(args, pairs, frames_of(settings.rigs, usable))
    job = Job(args, settings, run, cluster, features, usable, pairs, gps, positions)
    if not coarse_to_fine(job):
        all_at_once(job)
    if run.models:
        judge_cameras(run, settings)
        _use_model(args, run, truth)
    with waiting("diagnose", not args.quiet):
        run.diagnosis = diagnose(output / "database.db", [Path(model.path) for model in run.models], vars(args))
    summary = json.dumps(as_json(run, vars(args)), indent=2, ensure_ascii=False) + "\n"
    write_atomically(output / "summary.json", summary)
    return run


def _use_model(args: argparse.Namespace, run: Run, truth: demo.Truth | None) -> None:
    """What is wanted of the largest model besides itself."""
    output: Path = args.output
    largest = Path(run.models[0].path)
    if args.gps:
        tell_georeference(read_georeference(output / "sparse"), run)
    for name in dict.fromkeys(args.export or ()):
        _export(largest, name, args, run)
    if truth is not None:
        run.against_truth = demo.compare(largest, truth)


def _export(model: Path, name: str, args: argparse.Namespace, run: Run) -> None:
    """Write one format; what fails is said in the summary, for the model is there."""
    try:
        options = ExportOptions(args.masks, progress=not args.quiet)
        (path,) = export(model, [name], args.output / "export", args.images, options)
    except (PosfeatError, OSError) as error:
        run.remarks[f"export {name}"] = f"failed: {error}"
        run.failed.append(f"--export {name}: {error}")
    else:
        run.remarks[f"export {name}"] = str(path)


if __name__ == "__main__":
    sys.exit(main())
