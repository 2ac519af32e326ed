"""Reconstruct a folder of photographs: features, matches, verification, a COLMAP model.

    posfeat-hloc sfm --images photos
    posfeat-hloc sfm --video walk.mp4
    posfeat-hloc sfm --demo                     (no photographs at hand)

Run the same command again to resume: finished images, pairs and stages are kept, and what changed (a photograph, an
option) is recomputed.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import ADVANCED, add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.maps import described
from posfeat_hloc.cli.report import add_report_option, write_page
from posfeat_hloc.cli.summary import Summary, recorded
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.formats import EXTENSIONS, VIDEO
from posfeat_hloc.runtime.reporter import entry, listing
from posfeat_hloc.sfm.options import PAIRS, SfmOptions, complete

if TYPE_CHECKING:
    from posfeat_hloc.sfm.summary import SfmResult

COMMON = ("demo", "video", "masks", "feature", "max_size", "pairs", "camera", "export")
"""Options that the help lists first."""

_GROUPS = ("input", "features and matches", "pairs", "cameras and model", "computation")
"""Of the other options, in their order."""

_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})
_OTHER_NAMES = {
    "all": "exhaustive",
    "video": "sequential",
    "sequence": "sequential",
    "vocab_tree": "retrieval",
    "vocabtree": "retrieval",
    "similar": "retrieval",
    "similarity": "retrieval",
    "netvlad": "retrieval",
    "spatial": "gps",
    "location": "gps",
}
"""COLMAP's and hloc's words for pairs; ``_matcher`` at the end is dropped before."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a reconstruction, and where its files are."""
    add = parser.add_argument
    add("folder", type=Path, nargs="?", metavar="DIR", help="the same as --images DIR")
    add("--images", type=Path, metavar="DIR", help="folder of photographs, searched recursively")
    add("--output", type=Path, metavar="DIR",
        help="folder of results (default: outputs/<name of images or video>, outputs/demo)")  # fmt: skip
    for title in _GROUPS:
        parser.add_argument_group(f"{ADVANCED}: {title}")
    add_options(parser, SfmOptions, common=COMMON)
    add_report_option(parser)
    add_quiet(parser)


def prepare(args: argparse.Namespace) -> None:
    """Put what was meant in its place: a folder without ``--images``, a video as ``--images``, other names of pairs.

    Raises:
        ConfigurationError: no input or two, a file that is no folder and no video, or pairs that nothing is called.
    """
    told = []
    if args.folder is not None and args.images is not None:
        raise ConfigurationError(f"{args.folder}: a second folder; --images takes one folder, searched recursively")
    args.images = args.images or args.folder
    if args.images is not None and args.images.is_file():
        told += _a_file(args)
    if args.pairs is not None:
        args.pairs, note = pairs_meant(args.pairs)
        told += [note] if note else []
    args.options = complete(chosen(args, SfmOptions), args.images)
    if args.output is None:
        name = "demo" if args.demo else (args.images.resolve().name if args.images else args.video[0].stem)
        args.output = Path("outputs") / name
    for note in told:
        print(f"note: {note}", flush=True, file=sys.stderr if args.json else sys.stdout)


def run(args: argparse.Namespace) -> Summary:
    """Reconstruct; complete if there is a model with all requested exports."""
    from posfeat_hloc.sfm.pipeline import reconstruct

    options: SfmOptions = args.options
    result = reconstruct(args.images, args.output, options, reporter_of(args))
    shown = args.output / "images" if options.demo or options.video else args.images
    page, line = write_page(args.output, args)
    text = as_text(result, options.feature, shown, args.output) + line
    return Summary(text, recorded(args.output) | page, result.complete)


def _a_file(args: argparse.Namespace) -> list[str]:
    """``--images`` names a file."""
    path: Path = args.images
    kind = path.suffix.lower()
    if kind in VIDEO:
        args.images, args.video = None, [*(args.video or []), path]
        return [f"{path} is taken as --video"]
    if kind in EXTENSIONS:
        cure = f"give their folder: --images {path.parent}"
    elif kind in _ARCHIVES:
        cure = "unpack it, and give the folder"
    elif kind in (".txt", ".lst", ".csv"):
        cure = "give the folder by --images and this list by --image-list"
    else:
        cure = "give the folder of the photographs"
    raise ConfigurationError(f"{path}: is a file, but --images takes a folder; {cure}")


def pairs_meant(text: str) -> tuple[str, str]:
    """One of :data:`posfeat_hloc.sfm.options.PAIRS` or a path for a text, and a note where it is another word.

    Raises:
        ConfigurationError: no such file, and none of these names.
    """
    word = text.lower().replace("-", "_").removesuffix("_matcher")
    if word in PAIRS:
        return word, ""
    if Path(text).exists():
        return text, ""
    if word in _OTHER_NAMES:
        meant = _OTHER_NAMES[word]
        return meant, f"--pairs {text} is called --pairs {meant} here"
    near = difflib.get_close_matches(word, PAIRS, 1, 0.7)
    cure = f"did you mean {near[0]}?" if near else f"choose from {', '.join(PAIRS)}, or name a file of pairs"
    raise ConfigurationError(f"--pairs {text}: no such file; {cure}")


def as_text(run: SfmResult, feature: str, images: Path, output: Path) -> str:
    """The summary as the terminal shows it."""
    from posfeat_hloc.sfm.summary import unregistered

    lines = [""]
    if run.models:
        best = run.models[0]
        lines += [f"{best.registered} of {run.images} images reconstructed with {feature}", *described(best)]
        lines += _viewer(best.path, images, output)
        if (found := run.against_truth) is not None:
            rotation, position = found["median_rotation"], 100 * found["median_position"]
            lines += entry("camera errors", f"{rotation:.3f} degrees, {position:.2f} % of the camera path (medians)")
        for model in run.models[1:]:
            lines += entry("another model", f"{model.path}: {model.registered} images, {model.points} points")
    else:
        lines.append(f"no model: none of {run.images} images could be reconstructed")
    if run.database is not None:
        lines += entry("verified pairs", f"{run.database.verified} of {run.pairs}")
    for title, text in run.remarks.items():
        lines += entry(title, text)
    times = ", ".join(
        f"{stage} kept" if stage in run.kept else f"{stage} {seconds:.1f} s" for stage, seconds in run.seconds.items()
    )
    lines += entry("time", times)
    for title, items in (
        ("could not be read", run.extraction.skipped),
        ("not in this model", unregistered(run)),
        ("note", run.extraction.notes),
    ):
        lines += listing(title, items)
    for cause in run.diagnosis.causes:
        count = "1 image" if len(cause.images) == 1 else f"{len(cause.images)} images"
        lines += entry("likely cause", f"{cause.name} ({count}); {'try ' if cause.options else ''}{cause.remedies}")
    if (about := run.diagnosis.about_focal_lengths) is not None:
        lines += entry("focal lengths", about)
    if (about := run.diagnosis.about_one_side) is not None and run.against_truth is None:
        lines += entry("one side", about)
    if run.against_truth is not None:
        lines += _command("localize", ["posfeat-hloc localize", f"--map {output}", f"--queries {output / 'queries'}"])
        lines += _command("export", [f"posfeat-hloc export {output}", "--format ply transforms"])
    lines += entry("details", str(output / "summary.json"))
    return "\n".join(lines)


def _viewer(model: str, images: Path, output: Path) -> list[str]:
    """The command that opens a model in COLMAP, in several lines if it is long."""
    words = ("--import_path", model), ("--image_path", images), ("--database_path", output / "database.db")
    parts = [f"{flag} {shlex.quote(str(path))}" for flag, path in words]
    return _command("open in COLMAP", ["colmap gui", *parts])


def _command(title: str, parts: list[str]) -> list[str]:
    """A command to copy, in several lines if it is long."""
    first = f"  {title:<18}  "
    one = first + " ".join(parts)
    return [one] if len(one) <= 80 else (first + f" \\\n{22 * ' '}  ".join(parts)).split("\n")
