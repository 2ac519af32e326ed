"""``export``: a model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export import FORMATS, ExportOptions, export
from posfeat_hloc.localization.map_folder import recorded_command
from posfeat_hloc.sfm.reconstruction import find_model

_DEFAULT = ("text", "ply", "transforms")


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    command.set_defaults(run=export_model)
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="output folder of pipelines.sfm, or a COLMAP model")
    add("--format", nargs="+", choices=FORMATS, default=list(_DEFAULT), metavar="|".join(FORMATS),
        help="COLMAP's text files, points for viewers, nerfstudio's transforms.json, or undistorted photographs with "
        f"their model for Gaussian splatting and dense stereo (default: {' '.join(_DEFAULT)})")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="default: MODEL/export")
    add("--images", type=Path, metavar="DIR",
        help="the model's photographs, for the last two (default: where pipelines.sfm found them)")  # fmt: skip
    add("--masks", type=Path, metavar="DIR",
        help="masks of the photographs, for the last two: black where nothing may be learned "
        "(default: those that pipelines.sfm used)")  # fmt: skip
    add("--max-size", type=int, metavar="PX",
        help="shrink undistorted photographs to this longest side (default: no limit)")  # fmt: skip
    add("--quiet", action="store_true", help="no progress bars")
    add("--keep-frame", action="store_true",
        help="leave the model as it lies; otherwise transforms and undistorted are turned upright, as most "
        "photographs were held")  # fmt: skip


def export_model(args: argparse.Namespace) -> bool:
    """Write a model in other formats, and print what was written."""
    model = find_model(args.model)
    if model is None:
        raise ConfigurationError(f"{args.model}: no COLMAP model here or in sparse/0")
    folders = (args.model, *args.model.resolve().parents[:2])  # the model itself, sparse/, or the output folder
    recorded = next((found for folder in folders if (found := recorded_command(folder)).get("images")), {})
    images, masks = (
        given or (Path(recorded[name]) if recorded.get(name) else None)
        for name, given in (("images", args.images), ("masks", args.masks))
    )
    options = ExportOptions(masks, args.keep_frame, args.max_size, not args.quiet)
    for name in dict.fromkeys(args.format):  # each is said before the next one may fail
        for path in export(model, [name], args.output or args.model / "export", images, options):
            print(path, flush=True)
    return True
