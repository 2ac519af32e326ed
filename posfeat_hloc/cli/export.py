"""Write a model for other programs.

posfeat-hloc export outputs/photos --format transforms
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from posfeat_hloc.cli.arguments import add_quiet
from posfeat_hloc.sfm.options import ExportFormat

_DEFAULT = ("text", "ply", "transforms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="output folder of sfm, or a COLMAP model")
    formats = get_args(ExportFormat)
    add("--format", nargs="+", choices=formats, default=list(_DEFAULT), metavar="|".join(formats),
        help="COLMAP's text files, points for viewers, nerfstudio's transforms.json, or undistorted photographs with "
        f"their model for Gaussian splatting and dense stereo (default: {' '.join(_DEFAULT)})")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="default: MODEL/export")
    add("--images", type=Path, metavar="DIR",
        help="the model's photographs, for the last two (default: where sfm found them)")  # fmt: skip
    add("--masks", type=Path, metavar="DIR",
        help="masks of the photographs, for the last two: black where nothing may be learned "
        "(default: those that sfm used)")  # fmt: skip
    add("--max-size", type=int, metavar="PX",
        help="shrink undistorted photographs to this longest side (default: no limit)")  # fmt: skip
    add_quiet(parser)
    add("--keep-frame", action="store_true",
        help="keep the coordinate frame; otherwise transforms and undistorted are rotated upright, as "
        "estimated from the photographs")  # fmt: skip


def run(args: argparse.Namespace) -> bool:
    """Write a model in other formats, and print what was written."""
    from posfeat_hloc.export import ExportOptions, export, model_and_folders

    model, images, masks = model_and_folders(args.model, args.images, args.masks)
    options = ExportOptions(masks, args.keep_frame, args.max_size, not args.quiet)
    for name in dict.fromkeys(args.format):  # each is said before the next one may fail
        for path in export(model, [name], args.output or args.model / "export", images, options):
            print(path, flush=True)
    return True
