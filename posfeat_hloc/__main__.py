"""Features and matches by hloc's command lines, models for other programs, weights,
and a check of this installation.

    python -m posfeat_hloc extract --image_dir photos --export_dir results
    python -m posfeat_hloc match --export_dir results --pairs pairs.txt
    python -m posfeat_hloc list
    python -m posfeat_hloc check results/features.h5 --repair
    python -m posfeat_hloc export outputs/photos --format transforms
    python -m posfeat_hloc triangulate --model sparse/0 --images photos --output outputs/map
    python -m posfeat_hloc register outputs/photos
    python -m posfeat_hloc align outputs/photos --positions positions.txt --output outputs/aligned
    python -m posfeat_hloc export-onnx posfeat-small.onnx
    python -m posfeat_hloc weights list
    python -m posfeat_hloc report outputs/photos
    python -m posfeat_hloc doctor

The options of extract and match are those of `python -m hloc.extract_features`
and `python -m hloc.match_features`, the files are in hloc's layout. Run the same
command again to resume. `--engine hloc` lets an installed hloc do the work, with
its own confs beside ours; `list --engine hloc` shows them all.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from posfeat_hloc.cli.exit_codes import exit_code

COMMANDS = {
    "extract": ("features", "features of a folder of images"),
    "match": ("features", "matches of pairs of images"),
    "list": ("features", "the confs, one line each"),
    "check": ("check", "whether stored files are intact, and repair"),
    "export": ("export", "a model as text, PLY or transforms.json"),
    "triangulate": ("maps", "a map of our features at known poses"),
    "register": ("maps", "new photographs join a map, whose poses stay"),
    "merge": ("maps", "models of one run that share points become one"),
    "align": ("maps", "move a model to known positions or onto another one"),
    "export-onnx": ("export_onnx", "a feature as an ONNX file, for COLMAP, C++ and phones"),
    "weights": ("weights", "list, get, verify and convert weights"),
    "report": ("report", "a page about a finished or unfinished run"),
    "doctor": ("doctor", "check this installation"),
}
"""Command -> the module of ``posfeat_hloc.commands`` with its ``add_<command>`` (``_`` for ``-``), and its purpose."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; 0 only when the command did what it was asked for."""
    args = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
    resume = "run the same command again to go on from here"
    return exit_code(lambda: bool(args.run(args)), getattr(args, "export_dir", None), resume)


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    """A parser that knows the options of the given command only: doctor must start where torch does not."""
    parser = argparse.ArgumentParser(
        prog="python -m posfeat_hloc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="|".join(COMMANDS))
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name in argv[:1]:
            getattr(import_module(f"posfeat_hloc.commands.{module}"), f"add_{name.replace('-', '_')}")(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
