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
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.report import add_report_option, write_page
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.formats import EXTENSIONS, VIDEO
from posfeat_hloc.runtime.reporter import listing
from posfeat_hloc.sfm.options import PAIRS, SfmOptions, complete

if TYPE_CHECKING:
    from posfeat_hloc.sfm.summary import SfmResult

GROUPS = ("input", "features and matches", "pairs", "cameras and model", "output", "computation")
"""Of the help, in their order."""

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
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    add = groups["input"].add_argument
    add("folder", type=Path, nargs="?", metavar="DIR", help="the same as --images DIR")
    add("--images", type=Path, metavar="DIR", help="folder of photographs, searched recursively")
    output = groups["output"]
    output.add_argument("--output", type=Path, metavar="DIR",
        help="folder of results (default: outputs/<name of images or video>, outputs/demo)")  # fmt: skip
    add_report_option(output)
    add_quiet(output)
    add_options(parser, SfmOptions)


def prepare(args: argparse.Namespace) -> None:
    """Put what was meant in its place: a folder without ``--images``, a video as ``--images``, other names of pairs.

    Raises:
        ConfigurationError: no input or two, a file that is no folder and no video, or pairs that nothing is called.
    """
    told = []
    if args.folder is not None and args.images is not None:
        raise ConfigurationError(f"{args.folder}: a second folder; --images takes one, with folders below it")
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
        print(f"note: {note}", flush=True)


def run(args: argparse.Namespace) -> bool:
    """Reconstruct and print the summary; whether there is a model, and all that was wanted of it."""
    from posfeat_hloc.sfm.pipeline import reconstruct

    options: SfmOptions = args.options
    result = reconstruct(args.images, args.output, options, reporter_of(args))
    shown = args.output / "images" if options.demo or options.video else args.images
    print(as_text(result, options.feature, shown, args.output))
    write_page(args.output, args)
    return result.complete


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
    raise ConfigurationError(f"{path}: is a file, where --images takes a folder; {cure}")


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
        lines += [
            f"{best.registered} of {run.images} images reconstructed with {feature}",
            f"  points              {best.points:,}".replace(",", " "),
            f"  track length        {best.track_length:.2f} observations in {best.images_per_point:.2f} images",
            f"  reprojection error  {best.reprojection_error:.2f} px",
            f"  model               {best.path}",
            "  open it             colmap gui"
            f" --import_path {shlex.quote(best.path)} --image_path {shlex.quote(str(images))}"
            f" --database_path {shlex.quote(str(output / 'database.db'))}",
        ]
        if (found := run.against_truth) is not None:
            turned, moved = found["median_rotation"], 100 * found["median_position"]
            lines.append(
                f"  camera errors       {turned:.3f} degrees, {moved:.2f} % of the path of the cameras (medians)"
            )
        for model in run.models[1:]:
            lines.append(f"  another model       {model.path}: {model.registered} images, {model.points} points")
    else:
        lines.append(f"no model: none of {run.images} images could be reconstructed")
    if run.database is not None:
        lines.append(f"  verified pairs      {run.database.verified} of {run.pairs}")
    lines += [f"  {title:<18}  {text}" for title, text in run.remarks.items()]
    times = ", ".join(
        f"{stage} kept" if stage in run.kept else f"{stage} {seconds:.1f} s" for stage, seconds in run.seconds.items()
    )
    lines.append(f"  time                {times}")
    for title, items in (
        ("could not be read", run.extraction.skipped),
        ("not in this model", unregistered(run)),
        ("note", run.extraction.notes),
    ):
        lines += listing(title, items)
    for cause in run.diagnosis.causes:
        count = "1 image" if len(cause.images) == 1 else f"{len(cause.images)} images"
        text = f"{cause.name} ({count}); {'try ' if cause.options else ''}{cause.remedies}"
        lines += _hint("likely cause", text)
    if (told := run.diagnosis.about_focal_lengths) is not None:
        lines += _hint("focal lengths", told)
    if (told := run.diagnosis.about_one_side) is not None and run.against_truth is None:
        lines += _hint("one side", told)
    lines.append(f"  details             {output / 'summary.json'}")
    return "\n".join(lines)


def _hint(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"  {title:<18}  ", subsequent_indent=22 * " ")
