"""Inputs of a reconstruction besides a folder of photographs: videos, and where photographs were taken."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.summary import Run
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.mapping.georeference import Georeference
from posfeat_hloc.mapping.gps import Position, read_positions
from posfeat_hloc.video import extract_frames


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the options whose defaults depend on whether photographs or videos are given."""
    video = args.video is not None
    args.pairs = args.pairs or ("sequential" if video else "exhaustive")
    args.camera = args.camera or ("folder" if video else "auto")  # frames say nothing of their camera
    if args.loop_closure is None:
        args.loop_closure = video and args.pairs == "sequential"
    return args


def open_inputs(args: argparse.Namespace, run: Run) -> Path:
    """Make the folder of results, and the frames of videos in it, which ``args.images`` names afterwards.

    Returns:
        the folder of results.

    Raises:
        ImageError: a video cannot be read.
        ConfigurationError: the camera of the videos hardly moves, or options that do not belong together.
    """
    if args.loop_closure and args.pairs != "sequential":
        raise ConfigurationError("--loop-closure is for --pairs sequential; retrieval alone finds loops as well")
    if args.video is None:
        return args.output or Path("outputs") / args.images.resolve().name
    output: Path = args.output or Path("outputs") / args.video[0].stem
    args.images = output / "images"
    with run.stage("frames"):
        found = extract_frames(
            args.video, args.images, output / "video", args.frames, args.motion / 100, not args.quiet
        )
    run.note_kept("frames", found.written == 0)
    if len(found.names) < 2:
        raise ConfigurationError(
            f"{args.video[0]}: the picture hardly moves in its {found.watched} frames; take a video that walks around "
            f"its subject, or lower --motion {args.motion:g}"
        )
    chosen = f"{len(found.names)} of {found.watched}, {100 * found.step:.3g} % of the width apart"
    run.remarks["frames"] = "; ".join([chosen, *(f"{video} {what}" for video, what in found.incomplete.items())])
    return output


def gps_positions(args: argparse.Namespace, names: list[str], run: Run) -> dict[str, Position]:
    """Positions of the images that have one, where the command line asks for them."""
    if not args.gps and args.pairs != "gps":
        return {}
    positions = read_positions(args.images, names)
    if positions:
        run.remarks["GPS"] = f"{len(positions)} of {len(names)} images have a position"
    return positions


def tell_georeference(found: Georeference, run: Run) -> None:
    """Say how the models lie in the world."""
    latitude, longitude, altitude = found.origin
    for model in found.models:
        if model.aligned:
            text = f"metres east, north, up of {latitude:.6f}, {longitude:.6f}, {altitude:.0f} m; "
            text += f"cameras {model.distance:.2f} m from {model.positions} GPS positions"
            text += f"; {model.note}" if model.note else ""
        else:
            text = f"not in metres: {model.note}"
        run.remarks["georeference" if model.model == 0 else f"georeference {model.model}"] = text
