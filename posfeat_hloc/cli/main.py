"""``posfeat-hloc COMMAND``, the same as ``python -m posfeat_hloc COMMAND``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from posfeat_hloc import __version__
from posfeat_hloc.cli.arguments import flag
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError, wording

COMMANDS = (
    "sfm", "localize", "extract", "match", "list", "triangulate", "register", "merge", "align", "export", "export-onnx",
    "report", "check", "weights", "doctor", "aachen", "miniature-aachen", "eth",
    "hpatches", "relative-pose", "ablations", "images", "train",
    "train-patches", "train-descriptors", "pack-views",
)  # fmt: skip
"""Each has a module of its name here, with ``add_arguments(parser)`` and ``run(args)``; ``prepare(args)`` understands
a command line before anything is done."""

_HELP = f"""\
Learned local features for COLMAP and hloc, version {__version__}

  posfeat-hloc sfm --images photos        photographs to a COLMAP model
  posfeat-hloc sfm --demo                 the same on a rendered scene
  posfeat-hloc COMMAND --help             options of a command

  sfm                                     reconstruct photographs or videos
  localize                                poses of new photographs in a map
  extract, match, list                    features and matches as hloc's, confs
  triangulate, register, merge, align     maps: at known poses, grown, joined
  export, export-onnx                     models and networks for others
  weights, check, report, doctor          weights, files, pages, installation
  aachen, hpatches, eth, relative-pose    benchmarks of features and poses
  ablations, images, miniature-aachen     the papers' tables and pictures; tests
  train, train-descriptors                PoSFeat, and descriptors on pack-views
  train-patches, pack-views               HardNet, SOSNet; photographs in a file
"""

_RESUME = "run the same command again to resume"


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 only when it did what it was asked for, 2 for a command line that means nothing."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        return _no_command(argv)
    with wording(flag):
        try:
            module, args = parsed(argv)
        except ConfigurationError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        output: Path | None = getattr(args, "output", None) or getattr(args, "export_dir", None)
        return exit_code(lambda: bool(module.run(args)), output, getattr(module, "RESUME", _RESUME))


def parsed(argv: list[str]) -> tuple[Any, argparse.Namespace]:
    """The module of a command, and its command line understood.

    Raises:
        ConfigurationError: a command line that means nothing.
    """
    module = import_module(f"posfeat_hloc.cli.{argv[0].replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"posfeat-hloc {argv[0]}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    if hasattr(module, "prepare"):
        module.prepare(args)
    return module, args


def command(name: str) -> Callable[..., int]:
    """``main`` of a module that is one command, as those of ``pipelines`` are."""

    def run(argv: list[str] | None = None) -> int:
        return main([name, *(sys.argv[1:] if argv is None else argv)])

    return run


def _no_command(argv: list[str]) -> int:
    """Help and version; complains of any other word."""
    given = argv[0] if argv else "--help"
    if given in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if given == "--version":
        print(__version__)
        return 0
    near = difflib.get_close_matches(given, COMMANDS, 1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
    print(f"posfeat-hloc: error: {given!r} is no command; {meant}", file=sys.stderr)
    return 2
