"""What a command line of ``pipelines.sfm`` means where it does not say it in our words."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.formats import EXTENSIONS, VIDEO

PAIRS = ("exhaustive", "sequential", "retrieval", "gps")
"""What ``--pairs`` knows by name; anything else is a file."""

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
"""COLMAP's and hloc's words for :data:`PAIRS`; ``_matcher`` at the end is dropped before."""


def understand(args: argparse.Namespace) -> list[str]:
    """Put what was meant in its place: a folder without ``--images``, a video as ``--images``, other names of pairs.

    Returns:
        what was understood otherwise than it was written, a sentence each.

    Raises:
        ConfigurationError: no input or two, a file that is no folder and no video, or pairs that nothing is called.
    """
    told = []
    if args.folder is not None and args.images is not None:
        raise ConfigurationError(f"{args.folder}: a second folder; --images takes one, with folders below it")
    args.images = args.images or args.folder
    del args.folder
    if args.images is not None and args.images.is_file():
        told += _a_file(args)
    if args.demo and (args.images or args.video):
        raise ConfigurationError("--demo: renders its own images; leave out --images and --video")
    if not (args.demo or args.images or args.video):
        raise ConfigurationError("no input; name a folder of photographs by --images, a --video, or try --demo")
    if args.pairs is not None:
        args.pairs, note = pairs_meant(args.pairs)
        told += [note] if note else []
    return told


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
    """One of :data:`PAIRS` or a path for what ``--pairs`` says, and a note where it is another one.

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
