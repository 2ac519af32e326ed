"""Inputs that are no photographs yet: videos, the demonstration; how and where photographs were taken."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipelines import demo
from pipelines.sfm_options import Settings
from pipelines.summary import Run
from posfeat_hloc.cluster import Cluster
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extract_features import read_names
from posfeat_hloc.images.copies import check_copies
from posfeat_hloc.images.listing import Listing, survey
from posfeat_hloc.images.video import extract_frames
from posfeat_hloc.images.video.frames import COUNT, STEP
from posfeat_hloc.orientation import Orientation, choose_views
from posfeat_hloc.rendering.demo import write_photographs
from posfeat_hloc.runtime.timing import timed
from posfeat_hloc.sfm.georeference import Georeference
from posfeat_hloc.sfm.gps import Position, read_positions


def open_inputs(args: argparse.Namespace, run: Run) -> demo.Truth | None:
    """Write the images of ``--demo``, whose true cameras are returned, or the frames of videos.

    Raises:
        ImageError: a video cannot be read.
        ConfigurationError: the camera of the videos hardly moves.
    """
    if args.demo:
        return write_photographs(args.images, progress=not args.quiet)
    if args.photos is not None:
        _link_photographs(args.photos, args.images, {video.stem for video in args.video})
    if args.video is not None:
        _take_frames(args, run)
    return None


def check_images(args: argparse.Namespace) -> None:
    """Look at the folder of the images before anything is written.

    Raises:
        ConfigurationError: no folder, fewer than two images, or the same ones twice.
    """
    names = image_names(args)
    if len(names) < 2:
        raise ConfigurationError(f"{args.images}: holds one image; a reconstruction needs at least two")
    check_copies(args.images, names)


def list_names(args: argparse.Namespace, run: Run) -> list[str]:
    """All images; what was left out is said now and in the summary."""
    listing = _survey(args)
    for title, text in (("left out", listing.about_left_out()), ("other files", listing.about_others())):
        if text:
            run.remarks[title] = text
            if not args.quiet:
                print(f"{args.images}: {text}" if title == "other files" else f"{args.images}: left out {text}")
    return _chosen(args, listing.names)


def _survey(args: argparse.Namespace) -> Listing:
    leave_out = {args.output: "the output folder"} | ({args.masks: "masks"} if args.masks else {})
    return survey(args.images, leave_out)


def image_names(args: argparse.Namespace) -> list[str]:
    """The images that are asked for: all of the folder, or those of ``--image-list``.

    Raises:
        ConfigurationError: no such folder or list, or a list with a name that is not in the folder.
    """
    return _chosen(args, _survey(args).names)


def _chosen(args: argparse.Namespace, names: list[str]) -> list[str]:
    if args.image_list is None:
        return names
    asked = list(dict.fromkeys(read_names(args.image_list, args.images)))
    if absent := sorted(set(asked) - set(names)):
        raise ConfigurationError(
            f"{args.image_list}: {absent[0]!r} is not in {args.images} ({len(absent)} of {len(asked)} names; one is "
            f"written like {names[0]!r})"
        )
    return [name for name in names if name in set(asked)]


def _link_photographs(photos: Path, images: Path, taken: set[str]) -> None:
    """Let the folder of the frames hold the photographs, too, as a link under the name of their folder."""
    name = photos.resolve().name
    link = images / (f"{name}-photos" if name in taken else name)
    images.mkdir(parents=True, exist_ok=True)
    try:
        if link.is_symlink():
            if link.resolve() == photos.resolve():
                return
            link.unlink()
        os.symlink(photos.resolve(), link, target_is_directory=True)
    except OSError as error:
        raise ConfigurationError(
            f"{link}: cannot be made a link to {photos} ({error.strerror}); copy the photographs there"
        ) from error


def _take_frames(args: argparse.Namespace, run: Run) -> None:
    with run.stage("frames"):
        step = STEP if args.motion is None else args.motion / 100
        found = extract_frames(
            args.video,
            args.images,
            args.output / "video",
            args.frames or COUNT,
            step,
            not args.quiet,
            exactly=args.frames is not None and args.motion is None,
        )
    run.note_kept("frames", found.written == 0)
    if len(found.names) < 2:
        raise ConfigurationError(
            f"{args.video[0]}: the picture hardly moves in its {found.watched} frames; take a video that walks around "
            f"its subject, or lower --motion {100 * step:g}"
        )
    chosen = f"{len(found.names)} of {found.watched}, {100 * found.step:.3g} % of the width apart"
    run.remarks["frames"] = "; ".join([chosen, *(f"{video} {what}" for video, what in found.incomplete.items())])


def orient(
    args: argparse.Namespace, settings: Settings, names: list[str], run: Run, cluster: Cluster | None
) -> Orientation:
    """How images are shown to the extractor, and what the summary says of it."""
    seconds: dict[str, float] = {}
    with timed(seconds, "orient"):
        found = choose_views(
            args.orientation, settings.feature["model"], args.images, names, args.output / "orientation.h5",
            device=args.device, masks=args.masks, cluster=cluster, progress=not args.quiet,
        )  # fmt: skip
    if found.looked:
        run.seconds |= seconds
    run.remarks |= found.remarks()
    return found


def gps_positions(args: argparse.Namespace, names: list[str], run: Run) -> dict[str, Position]:
    """Positions of the images that have one, where the command line asks for them."""
    if not args.gps and args.pairs != "gps":
        return {}
    positions = read_positions(args.images, names)
    if positions:
        run.remarks["GPS"] = f"{len(positions)} of {len(names)} images have a position"
        if assumed := sum(position.assumed for position in positions.values()):
            run.remarks["GPS"] += f"; {assumed} of them without N or S, E or W, taken as north and east"
    return positions


def tell_georeference(found: Georeference, run: Run) -> None:
    """Say how the models lie in the world."""
    latitude, longitude, altitude = found.origin
    for model in found.models:
        if model.aligned:
            text = f"metres east, north, up of {latitude:.6f}, {longitude:.6f}, {altitude:.0f} m; "
            text += f"cameras {model.distance:.2f} m (median), at most {model.maximum:.2f} m from {model.inliers} of "
            text += f"{model.positions} GPS positions"
            text += f"; {model.note}" if model.note else ""
        else:
            text = f"not in metres: {model.note}"
        for name, off in model.outliers.items():
            run.extraction.note(name, f"GPS position {_length(off)} from where the others put it, not used")
        run.remarks["georeference" if model.model == 0 else f"georeference {model.model}"] = text


def _length(metres: float) -> str:
    return f"{metres / 1000:,.0f} km".replace(",", " ") if metres >= 10_000 else f"{metres:.0f} m"
