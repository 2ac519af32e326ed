"""Cameras of a reconstruction: chosen and checked before the work, judged after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from posfeat_hloc.errors import Option
from posfeat_hloc.images.formats import open_image
from posfeat_hloc.images.panoramas import are_panoramas
from posfeat_hloc.sfm.cameras import PANORAMA, check_cameras, sizes_of_files
from posfeat_hloc.sfm.diagnosis.camera_check import doubtful_cameras, told
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.reconstruction import read_model

_EXIF_IFD, _FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x8769, 0x920A, 0xA405


def choose_cameras(job: Job, names: Sequence[str]) -> None:
    """Know panoramas as such, check that intrinsics fit, and say where one camera for all would be better.

    Raises:
        ConfigurationError: see :func:`posfeat_hloc.sfm.cameras.check_cameras`, or an export that has no such camera
            model.
    """
    options = job.options
    if options.camera_model is None and options.camera_params is None and are_panoramas(job.images, names):
        job.options = replace(options, camera_model=PANORAMA)
        taken, other = Option("camera_model", PANORAMA), Option("camera_model")
        _tell(job, "panoramas", f"taken as such ({taken}); {other} says otherwise")
    camera = job.settings.camera
    if camera.params is not None or camera.calibrations or camera.mode in ("single", "folder"):
        notes = check_cameras(sizes_of_files(job.images, names), camera)
        if notes:
            more = f"; and {len(notes) - 3} more" if len(notes) > 3 else ""
            _tell(job, "intrinsics", "; ".join(notes[:3]) + more)
    if options.camera == "auto" and options.camera_params is None and not (options.demo or options.video):
        size = only_size_without_exif(job.images, names)
        if size is not None:
            job.note(
                f"no image has a focal length in EXIF, and all are {size[0]}x{size[1]}; if one camera with one zoom "
                f"took them, add {Option('camera', 'single')}: one focal length is found more exactly than one for "
                "each image"
            )


def only_size_without_exif(images: Path, names: Sequence[str]) -> tuple[int, int] | None:
    """The size (w, h) that all images have, where none of them has a focal length in EXIF; None otherwise.

    Only headers are read, up to the first image that differs. Files that cannot be read are left out; two images say
    nothing.
    """
    sizes = set()
    count = 0
    for name in names:
        try:
            with open_image(images / name) as file:
                sizes.add(file.size)
                tags = file.getexif().get_ifd(_EXIF_IFD)
        except Exception:  # damaged files are told of when they are decoded
            continue
        count += 1
        if len(sizes) > 1 or tags.get(_FOCAL_LENGTH) or tags.get(_FOCAL_LENGTH_35MM):
            return None
    return sizes.pop() if count > 2 else None


def judge_cameras(job: Job) -> None:
    """Say which cameras of the largest model cannot be right, or are not determined."""
    model = read_model(Path(job.result.models[0].path))
    doubtful = doubtful_cameras(model, job.settings.mapper.refine_intrinsics)
    for number, text in enumerate(told(doubtful, len(model.cameras))):
        job.result.remarks[f"camera{' again' if number else ''}"] = text


def _tell(job: Job, title: str, text: str) -> None:
    job.result.remarks[title] = text
    if job.progress:
        job.reporter.note(f"{title} {text}")
