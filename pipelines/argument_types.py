"""Options that several commands have, and their types."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from posfeat_hloc import confs, weights
from posfeat_hloc.evaluation.poses import Threshold
from posfeat_hloc.localization.options import FALLBACKS, LocalizationOptions
from posfeat_hloc.orientation import MODES


def positive(text: str) -> int:
    """A number of things on a command line."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def not_negative(text: str) -> int:
    """A number of things on a command line, where none is a choice."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is neither 0 nor a positive whole number")
    return int(text)


def thresholds(text: str) -> tuple[Threshold, ...]:
    """Distances and degrees, ``0.25,2 0.5,5``."""
    try:
        pairs = [[float(value) for value in part.split(",")] for part in text.split()]
        if not pairs or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
            raise ValueError("not pairs of numbers")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like '0.25,2 0.5,5'") from error
    return tuple((distance, angle) for distance, angle in pairs)


def retrieval_source(text: str) -> str:
    """The name of a conf of global descriptors, or an HDF5 file of them."""
    if text not in confs.retrieval and not text.endswith((".h5", ".hdf5")):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(confs.retrieval)}, nor an HDF5 file (.h5)")
    return text


def add_network_options(parser: argparse._ActionsContainer) -> None:
    """``--matcher`` and ``--weights``."""
    add = parser.add_argument
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--weights", metavar="NAME|FILE",
        help="other weights for the feature's network: a file, the authors' folder of PoSFeat, or a public name "
        f"({', '.join(weights.PUBLIC)})")  # fmt: skip


def add_pose_options(parser: argparse.ArgumentParser) -> None:
    """How poses of queries are found; see :class:`posfeat_hloc.localization.options.LocalizationOptions`."""
    add = parser.add_argument
    add("--max-error", type=float, default=LocalizationOptions.max_error, metavar="PX",
        help="of an inlier (default: %(default)s)")  # fmt: skip
    add("--min-inliers", type=positive, default=LocalizationOptions.min_inliers, metavar="N",
        help="3D points among the inliers; more where chance gives as many (default: %(default)s)")  # fmt: skip
    add("--covisibility-clustering", action="store_true",
        help="try groups of map images without common 3D points apart; the one with most inliers wins")  # fmt: skip
    add("--fallback", choices=[name for name in FALLBACKS if name],
        help="give queries that are not localized the pose of their first map image, as benchmarks allow")  # fmt: skip


def add_orientation(parser: argparse._ActionsContainer) -> None:
    """``--orientation``."""
    parser.add_argument("--orientation", choices=MODES, default="exif",
        help="how photographs are held, for their features; cameras and keypoints stay in the pixels as stored. exif: "
        "by EXIF alone; auto: also turned where others show that a photograph lies on its side; none: as "
        "stored (default: %(default)s)")  # fmt: skip


def add_feature_options(parser: argparse.ArgumentParser, default: Sequence[str] = (confs.DEFAULT_FEATURE,)) -> None:
    """``--features``, ``--weights`` and what else decides which keypoints are matched, and where."""
    add = parser.add_argument
    add("--features", nargs="+", default=list(default), metavar="FEATURE",
        help=f"NAME, one of {', '.join(confs.extractors)}; NAME:OPTION=VALUE[:OPTION=VALUE...] with other options of "
        "the extractor or resize_max; FILE.h5 with features that are there already, ours or hloc's "
        f"(default: {' '.join(default)})")  # fmt: skip
    add("--weights", nargs="+", default=[], metavar="FEATURE=FILE", help="other weights for a feature's network")
    add_matching_options(parser)


def add_matching_options(parser: argparse.ArgumentParser) -> None:
    """``--top-k``, ``--device`` and ``--quiet``."""
    add = parser.add_argument
    add("--top-k", type=positive, metavar="K", help="match the K keypoints with the highest scores (default: all)")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")
