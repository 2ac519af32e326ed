"""Options that several commands have, and their types."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from posfeat_hloc import confs, weights


def positive(text: str) -> int:
    """A number of things on a command line."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def add_network_options(parser: argparse._ActionsContainer) -> None:
    """``--matcher`` and ``--weights``."""
    add = parser.add_argument
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--weights", metavar="NAME|FILE",
        help="other weights for the feature's network: a file, the authors' folder of PoSFeat, or a public name "
        f"({', '.join(weights.PUBLIC)})")  # fmt: skip


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
