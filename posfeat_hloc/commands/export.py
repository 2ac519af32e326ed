"""``export``: a model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export import FORMATS, export
from posfeat_hloc.localization.map_folder import recorded_command
from posfeat_hloc.mapping.reconstruction import find_model


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of ``export``."""
    command.set_defaults(run=export_model)
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="output folder of pipelines.sfm, or a COLMAP model")
    add("--format", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="|".join(FORMATS),
        help="COLMAP's text files, points for viewers, or nerfstudio's and Gaussian splatting's transforms.json "
        "(default: all)")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="default: MODEL/export")
    add("--images", type=Path, metavar="DIR",
        help="the model's photographs, for transforms (default: where pipelines.sfm found them)")  # fmt: skip


def export_model(args: argparse.Namespace) -> bool:
    """Write a model in other formats, and print what was written."""
    model = find_model(args.model)
    if model is None:
        raise ConfigurationError(f"{args.model}: no COLMAP model here or in sparse/0")
    folders = (args.model, *args.model.resolve().parents[:2])  # the model itself, sparse/, or the output folder
    recorded = next((found for folder in folders if (found := recorded_command(folder).get("images"))), None)
    images = args.images or (Path(recorded) if recorded else None)
    for path in export(model, dict.fromkeys(args.format), args.output or args.model / "export", images):
        print(path)
    return True
