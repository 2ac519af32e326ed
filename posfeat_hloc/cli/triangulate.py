"""Make a map of our features at known poses.

posfeat-hloc triangulate --model sparse/0 --images photos --output outputs/map
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from posfeat_hloc.cli.arguments import add_options, add_quiet, chosen, reporter_of
from posfeat_hloc.cli.map_text import described
from posfeat_hloc.runtime.reporter import listing
from posfeat_hloc.sfm.options import TriangulateOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The known poses, and how features are triangulated."""
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="PATH",
        help="known cameras and poses: a COLMAP model or a folder with one in sparse/0; Bundler's bundle.out beside "
        "its list of images; an NVM file; transforms.json; a folder of Polycam's JSON cameras; a text file of poses"
        )  # fmt: skip
    add("--images", type=Path, required=True, metavar="DIR", help="its photographs")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the map")
    add_quiet(parser)
    add_options(parser, TriangulateOptions)


def run(args: argparse.Namespace) -> bool:
    """Make the map, and say what it holds."""
    from posfeat_hloc.sfm.map_at_known_poses import triangulate_images

    options = chosen(args, TriangulateOptions)
    made = triangulate_images(args.model, args.images, args.output, options, reporter_of(args))
    lines = [f"{made.model.registered} images at their known poses, {options.feature}"]
    if made.posed > len(made.extraction.names):
        lines.append(
            f"  without features    {made.posed - len(made.extraction.names)}: not in {args.images}, or unreadable"
        )
    lines += described(made.model)
    if options.refine:
        lines.append(f"  poses moved by      {made.moved:.4g} (median, in the units of the model)")
    lines.append(f"  localize in it      posfeat-hloc localize --map {shlex.quote(str(args.output))} --queries DIR")
    print("\n".join([*lines, *listing("skipped", made.extraction.skipped)]))
    return True
