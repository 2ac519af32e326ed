"""Let new photographs join a map, whose poses stay.

posfeat-hloc register outputs/photos
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.map_text import described
from posfeat_hloc.runtime.reporter import listing
from posfeat_hloc.sfm.options import RegisterOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The map, and how it grows."""
    add = parser.add_argument
    add("map", type=Path, metavar="MAP", help="output folder of sfm or triangulate, which stays unchanged")
    add("--output", type=Path, metavar="DIR", help="folder of the grown map (default: MAP-grown)")
    add_quiet(parser)
    add_options(parser, RegisterOptions)


def run(args: argparse.Namespace) -> bool:
    """Grow the map, and say what became of the new photographs; False where none joined."""
    from posfeat_hloc.localization.register import register_images

    output: Path = args.output or args.map.with_name(f"{args.map.resolve().name}-grown")
    grown = register_images(args.map, output, chosen(args, RegisterOptions), reporter_of(args))
    new = len(grown.registered) + len(grown.failed)
    lines = [f"{len(grown.registered)} of {new} new images joined the {grown.before} of {args.map}"]
    lines += described(grown.model)
    stay = "stay to the last digit" if grown.moved == 0 else f"changed by at most {grown.moved:.3g}"
    lines.append(f"  old poses           {stay}; the coordinate frame is the map's")
    print("\n".join([*lines, *listing("not registered", grown.failed)]))
    return bool(grown.registered)
