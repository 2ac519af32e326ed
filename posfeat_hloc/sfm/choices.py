"""What is chosen by looking at the images: which are matched, and which cameras took them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.formats import open_image
from posfeat_hloc.images.panoramas import are_panoramas
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.runtime.progress import waiting
from posfeat_hloc.runtime.reporter import counted
from posfeat_hloc.sfm.cameras import PANORAMA, check_cameras, sizes_of_files
from posfeat_hloc.sfm.diagnosis.camera_check import doubtful_cameras, told
from posfeat_hloc.sfm.gps import position_pairs
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.options import SfmOptions
from posfeat_hloc.sfm.pairs import exhaustive_pairs, far_pairs, sequential_pairs
from posfeat_hloc.sfm.rigs import sequential_frame_pairs, simultaneous_pairs
from posfeat_hloc.stores import GlobalDescriptorStore
from posfeat_hloc.stores.pairs import Pair, read_pairs, unique_pairs

NEIGHBORS = 20
"""Most similar or nearest images that an image is matched with."""

ALL_PAIRS_UP_TO = 200
"""Images that are all matched with each other where nothing else is asked for: 19 900 pairs, an hour or two of matching
on two cores. With more, each is matched with its :data:`NEIGHBORS` most similar ones."""

LOOPS = 5
"""Most similar images elsewhere in a sequence that an image is matched with."""


def default_pairs(count: int) -> tuple[str, str]:
    """Default pairs, and the reason; the reason is empty for the usual choice."""
    if count <= ALL_PAIRS_UP_TO:
        return "exhaustive", ""
    every = f"{count * (count - 1) // 2:,}".replace(",", " ")
    return "retrieval", (
        f"{count} images have {every} pairs, so each is matched with its {NEIGHBORS} most similar ones only "
        f"({Option('pairs', 'retrieval')}); {Option('pairs', 'exhaustive')} matches all, "
        f"{Option('pairs', 'sequential')} suits frames in the order of names"
    )


def choose_default_pairs(job: Job, names: Sequence[str]) -> None:
    """Choose the pairs by the number of images, where the options leave it open."""
    if job.options.pairs is None:
        pairs, why = default_pairs(len(names))
        job.options = replace(job.options, pairs=pairs)
        if why:
            job.note(why)


def choose_pairs(job: Job, names: list[str]) -> list[Pair]:
    """Pairs of images that have features.

    Args:
        job: its ``usable`` images are paired; its output folder keeps global descriptors.
        names: all images.
    """
    args, usable = job.options, job.usable
    if args.pairs == "exhaustive":
        return exhaustive_pairs(usable)
    if args.pairs == "retrieval":
        return unique_pairs(_similar(job, args.neighbors or NEIGHBORS))
    if args.pairs == "sequential":
        pairs = sequential_pairs(usable, args.overlap)
        if not args.loop_closure or len(usable) <= args.overlap + 1:  # no image is far from any other
            return pairs
        wanted = args.neighbors or LOOPS
        similar = _similar(job, wanted + 2 * args.overlap)
        loops = far_pairs(similar, usable, args.overlap, wanted)
        return unique_pairs([*pairs, *loops])
    if args.pairs == "gps":
        assert job.positions is not None
        for name in sorted(set(usable) - job.positions.metres.keys()):
            job.result.extraction.note(name, "no GPS position, matched with all images")
        return position_pairs(usable, job.positions, args.neighbors or NEIGHBORS)
    have = set(usable)
    pairs = [pair for pair in read_pairs(Path(str(args.pairs)), names) if have.issuperset(pair)]
    if not pairs:
        raise ConfigurationError(f"{args.pairs}: none of its pairs has two readable images")
    return pairs


def add_frame_pairs(options: SfmOptions, pairs: list[Pair], frames: list[list[str]]) -> list[Pair]:
    """Pairs with those of images that were taken at the same time.

    Args:
        options: with sequential pairs, neighbouring frames are matched, all images with all.
        pairs: that :func:`choose_pairs` chose.
        frames: names of the images of each frame, in the order of exposure.
    """
    if options.pairs != "sequential":
        return unique_pairs([*simultaneous_pairs(frames), *pairs])
    return unique_pairs([*sequential_frame_pairs(frames, options.overlap), *pairs])


def _similar(job: Job, count: int) -> list[Pair]:
    """Each image with the most similar others, best first, by global descriptors kept in the output folder or given."""
    args, usable, run = job.options, job.usable, job.result
    if args.retrieval not in confs.retrieval:
        return _similar_by_file(job, Path(args.retrieval), count)
    conf = confs.retrieval[args.retrieval]
    path = job.output / f"{conf['output']}.h5"
    with run.stage("retrieve"):
        shown = run.orientation
        report = describe_images(
            conf, job.images, path, usable, args.device, progress=job.progress, views=shown.views, exif=shown.exif
        )
        if len(report.names) < 2:
            reasons = counted(report.skipped)
            raise ConfigurationError(f"{job.images}: fewer than two images can be described ({reasons})")
        with waiting("retrieve", job.progress):
            pairs = retrieve(path, path, count, report.names, report.names)
    run.note_kept("retrieve", not report.extracted)
    for name, reason in report.skipped.items():
        run.extraction.note(name, f"not paired by similarity: {reason}")
    return pairs


def _similar_by_file(job: Job, path: Path, count: int) -> list[Pair]:
    """The same by a file of global descriptors in hloc's layout, which hloc or another program wrote."""
    usable, run = job.usable, job.result
    with GlobalDescriptorStore(path) as store:
        described = set(store.names())
    found = [name for name in usable if name in described]
    if len(found) < 2:
        raise ConfigurationError(f"{path}: describes fewer than two of the images; describe the same folder of images")
    with run.stage("retrieve"):
        pairs = retrieve(path, path, count, found, found)
    for name in sorted(set(usable) - described):
        run.extraction.note(name, f"not paired by similarity: {path} does not describe it")
    return pairs


_EXIF_IFD, _FOCAL_LENGTH, _FOCAL_LENGTH_35MM = 0x8769, 0x920A, 0xA405


def choose_cameras(job: Job, names: Sequence[str]) -> None:
    """Detect panoramas, check intrinsics, and suggest a shared camera where it is better.

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
    """Report cameras of the largest model that are implausible or poorly determined."""
    model = read_model(Path(job.result.models[0].path))
    doubtful = doubtful_cameras(model, job.settings.mapper.refine_intrinsics)
    for number, text in enumerate(told(doubtful, len(model.cameras))):
        job.result.remarks[f"camera{' again' if number else ''}"] = text


def _tell(job: Job, title: str, text: str) -> None:
    job.result.remarks[title] = text
    if job.progress:
        job.reporter.note(f"{title} {text}")
