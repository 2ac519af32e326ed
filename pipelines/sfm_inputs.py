"""Inputs of a reconstruction that are no photographs yet: videos, the demonstration; where photographs were taken."""

from __future__ import annotations

import argparse

from pipelines import demo
from pipelines.summary import Run
from posfeat_hloc.demo import write_photographs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.mapping.georeference import Georeference
from posfeat_hloc.mapping.gps import Position, read_positions
from posfeat_hloc.video import extract_frames


def open_inputs(args: argparse.Namespace, run: Run) -> demo.Truth | None:
    """Write the images of ``--demo``, whose true cameras are returned, or the frames of videos.

    Raises:
        ImageError: a video cannot be read.
        ConfigurationError: the camera of the videos hardly moves.
    """
    if args.demo:
        return write_photographs(args.images, progress=not args.quiet)
    if args.video is not None:
        _take_frames(args, run)
    return None


def _take_frames(args: argparse.Namespace, run: Run) -> None:
    with run.stage("frames"):
        found = extract_frames(
            args.video, args.images, args.output / "video", args.frames, args.motion / 100, not args.quiet
        )
    run.note_kept("frames", found.written == 0)
    if len(found.names) < 2:
        raise ConfigurationError(
            f"{args.video[0]}: the picture hardly moves in its {found.watched} frames; take a video that walks around "
            f"its subject, or lower --motion {args.motion:g}"
        )
    chosen = f"{len(found.names)} of {found.watched}, {100 * found.step:.3g} % of the width apart"
    run.remarks["frames"] = "; ".join([chosen, *(f"{video} {what}" for video, what in found.incomplete.items())])


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
