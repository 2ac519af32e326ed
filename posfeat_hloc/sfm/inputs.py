"""Inputs of a reconstruction: photographs, videos, the demonstration; orientation and GPS positions."""

from __future__ import annotations

import os
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.evaluation.poses import TrueCamera
from posfeat_hloc.extract_features import read_names
from posfeat_hloc.images.listing import Listing, check_copies, survey
from posfeat_hloc.images.video import COUNT, STEP, extract_frames
from posfeat_hloc.orientation import Orientation, choose_views
from posfeat_hloc.rendering.demo import QUERIES, write_photographs, write_queries
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.sfm.georeference import Georeference
from posfeat_hloc.sfm.gps import Position, read_positions
from posfeat_hloc.sfm.job import Job


def open_inputs(job: Job) -> dict[str, TrueCamera] | None:
    """Write the images of the demonstration and return its true cameras, or write the frames of videos.

    Raises:
        ImageError: a video cannot be read.
        ConfigurationError: the camera of the videos hardly moves.
    """
    videos = job.options.video or ()
    if job.options.demo:
        write_queries(job.output / QUERIES)
        return write_photographs(job.images, progress=job.progress)
    if job.photos is not None:
        _link_photographs(job.photos, job.images, {video.stem for video in videos})
    if videos:
        _take_frames(job, videos)
    return None


def check_images(job: Job) -> None:
    """Look at the folder of the images before anything is written.

    Raises:
        ConfigurationError: no folder, fewer than two images, or the same ones twice.
    """
    names = image_names(job)
    if len(names) < 2:
        raise ConfigurationError(f"{job.images}: holds one image; a reconstruction needs at least two")
    check_copies(job.images, names)


def list_names(job: Job) -> list[str]:
    """All images; excluded files are reported now and in the summary."""
    listing = _survey(job)
    for title, text in (("left out", listing.about_left_out()), ("other files", listing.about_others())):
        if text:
            job.result.remarks[title] = text
            job.reporter.say(f"{job.images}: {text}" if title == "other files" else f"{job.images}: left out {text}")
    return _chosen(job, listing.names)


def _survey(job: Job) -> Listing:
    masks = job.options.masks
    return survey(job.images, {job.output: "the output folder"} | ({masks: "masks"} if masks else {}))


def image_names(job: Job) -> list[str]:
    """The images: all of the folder, or those of a list.

    Raises:
        ConfigurationError: no such folder or list, or a list with a name that is not in the folder.
    """
    return _chosen(job, _survey(job).names)


def _chosen(job: Job, names: list[str]) -> list[str]:
    path = job.options.image_list
    if path is None:
        return names
    asked = list(dict.fromkeys(read_names(path, job.images)))
    if absent := sorted(set(asked) - set(names)):
        raise ConfigurationError(
            f"{path}: {absent[0]!r} is not in {job.images} ({len(absent)} of {len(asked)} names; one is "
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


def _take_frames(job: Job, videos: tuple[Path, ...]) -> None:
    options, run = job.options, job.result
    with run.stage("frames"):
        step = STEP if options.motion is None else options.motion / 100
        exactly = options.frames is not None and options.motion is None
        found = extract_frames(
            videos, job.images, job.output / "video", options.frames or COUNT, step, job.progress, exactly=exactly
        )
    run.note_kept("frames", found.written == 0)
    if len(found.names) < 2:
        raise ConfigurationError(
            f"{videos[0]}: the camera hardly moves in its {found.watched} frames; use a video that moves around "
            "its subject, or lower ", Option("motion", f"{100 * step:g}")
        )  # fmt: skip
    chosen = f"{len(found.names)} of {found.watched}, {100 * found.step:.3g} % of the width apart"
    run.remarks["frames"] = "; ".join([chosen, *(f"{video} {what}" for video, what in found.incomplete.items())])


def orient(job: Job, names: list[str]) -> Orientation:
    """Rotation of images for the extractor, and its lines in the summary."""
    seconds: dict[str, float] = {}
    options = job.options
    with timed(seconds, "orient"):
        found = choose_views(
            options.orientation, job.settings.feature["model"], job.images, names, job.output / "orientation.h5",
            device=options.device, masks=options.masks, cluster=job.cluster, progress=job.progress,
            resize_max=job.settings.feature["preprocessing"]["resize_max"],
        )  # fmt: skip
    if found.looked:
        job.result.seconds |= seconds
    job.result.remarks |= found.remarks()
    return found


def gps_positions(job: Job, names: list[str]) -> dict[str, Position]:
    """Positions of the images that have one, where the options ask for them."""
    if not job.options.gps and job.options.pairs != "gps":
        return {}
    positions = read_positions(job.images, names)
    if positions:
        text = f"{len(positions)} of {len(names)} images have a position"
        if assumed := sum(position.assumed for position in positions.values()):
            text += f"; {assumed} of them without N or S, E or W, taken as north and east"
        job.result.remarks["GPS"] = text
    return positions


def tell_georeference(found: Georeference, job: Job) -> None:
    """Report the alignment of the models to GPS."""
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
            job.result.extraction.note(
                name, f"GPS position {_length(off)} from the position that the other images give; not used"
            )
        job.result.remarks["georeference" if model.model == 0 else f"georeference {model.model}"] = text


def _length(metres: float) -> str:
    return f"{metres / 1000:,.0f} km".replace(",", " ") if metres >= 10_000 else f"{metres:.0f} m"
