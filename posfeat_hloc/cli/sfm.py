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
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.page import add_report_option, write_page
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.formats import EXTENSIONS, VIDEO
from posfeat_hloc.sfm.options import PAIRS, SfmOptions, complete

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
    from posfeat_hloc.cli.sfm_text import as_text
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
