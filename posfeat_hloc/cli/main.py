"""``posfeat-hloc COMMAND``, the same as ``python -m posfeat_hloc COMMAND``."""

from __future__ import annotations

import argparse
import difflib
import inspect
import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from posfeat_hloc import __version__
from posfeat_hloc.cli.arguments import flag
from posfeat_hloc.cli.help_format import HelpFormatter
from posfeat_hloc.cli.summary import add_json, print_summary
from posfeat_hloc.errors import ConfigurationError, PosfeatError, wording
from posfeat_hloc.runtime.colors import label

COMMANDS = (
    "sfm", "localize", "extract", "match", "list", "triangulate", "register", "merge", "align", "export", "export-onnx",
    "report", "check", "weights", "doctor", "aachen", "miniature-aachen", "eth",
    "hpatches", "relative-pose", "ablations", "images", "train",
    "train-patches", "train-descriptors", "pack-views",
)  # fmt: skip
"""Each is a module of its name here, or a class in one of :data:`_MODULES`: its docstring is the description,
``add_arguments(parser)`` adds its options, ``prepare(args)``, if there is one, completes the arguments before anything
is done, and ``run(args)`` returns a :class:`~posfeat_hloc.cli.summary.Summary`."""

_MODULES = {
    "maps": ("triangulate", "register", "merge", "align"),
    "features": ("extract", "match", "list"),
    "export": ("export", "export-onnx"),
    "aachen": ("aachen", "miniature-aachen"),
    "benchmarks": ("hpatches", "relative-pose", "eth"),
    "train": ("train", "train-descriptors", "train-patches", "pack-views"),
}
"""Module -> commands that it has as classes, such as ``MiniatureAachen``."""

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
    """Run a command; 0 for a complete result, 1 for an incomplete one or an error, 2 for a wrong command line."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        return _no_command(argv)
    with wording(flag):
        try:
            module, args = parsed(argv)
        except ConfigurationError as error:
            print(f"{label('error:', sys.stderr)} {error}", file=sys.stderr)
            return 2
        output: Path | None = getattr(args, "output", None) or getattr(args, "export_dir", None)
        return exit_code(
            lambda: print_summary(lambda: module.run(args), args.json), output, getattr(module, "RESUME", _RESUME)
        )


def exit_code(action: Callable[[], bool], output: Path | None, resume: str) -> int:
    """Run a command, print its error if any, and return its exit code.

    Args:
        action: returns whether there is a result.
        output: named for errors of the system that name no file; None when nothing is written.
        resume: how to resume after Ctrl-C.

    Returns:
        0 with a result, 1 without one or after an error, 130 after Ctrl-C, 141 where the reader of a pipe has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # paths may hold bytes that are not UTF-8
    failed = label("error:", sys.stderr)
    try:
        complete = action()
        sys.stdout.flush()
        return 0 if complete else 1
    except PosfeatError as error:
        print(f"{failed} {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader, such as head, has seen enough; the interpreter would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = error.filename or output
        print(f"{failed} {f'{where}: ' if where else ''}{error.strerror or error}", file=sys.stderr)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; torch itself may be what is missing
            raise
        print(f"{failed} out of memory ({error}); use smaller images or batches", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nstopped; {resume}", file=sys.stderr)
        return 130
    return 1


def parsed(argv: list[str]) -> tuple[Any, argparse.Namespace]:
    """What has the parts of a command (see :data:`COMMANDS`), and its command line understood.

    Raises:
        ConfigurationError: a wrong command line.
    """
    home = next((home for home, names in _MODULES.items() if argv[0] in names), None)
    module: Any = import_module(f"posfeat_hloc.cli.{home or argv[0]}")
    if home is not None:
        module = getattr(module, argv[0].title().replace("-", ""))
    parser = argparse.ArgumentParser(
        prog=f"posfeat-hloc {argv[0]}",
        description=inspect.getdoc(module),
        formatter_class=HelpFormatter,
    )
    module.add_arguments(parser)
    add_json(parser)
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
    """Help and version; an error for anything else."""
    given = argv[0] if argv else "--help"
    if given in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if given == "--version":
        print(__version__)
        return 0
    near = difflib.get_close_matches(given, COMMANDS, 1)
    meant = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
    print(f"posfeat-hloc: error: {given!r} is not a command; {meant}", file=sys.stderr)
    return 2
