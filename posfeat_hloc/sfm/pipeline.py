"""Photographs in, COLMAP models out: features, matches, verification, models, why images stayed out."""

from __future__ import annotations

from pathlib import Path

from posfeat_hloc.cluster import connect
from posfeat_hloc.errors import ConfigurationError, Option, PosfeatError
from posfeat_hloc.evaluation.poses import TrueCamera
from posfeat_hloc.export import ExportOptions, check_formats, export
from posfeat_hloc.extract_features import extract
from posfeat_hloc.rendering import demo
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.output import claim, only_writer, write_json
from posfeat_hloc.runtime.progress import waiting
from posfeat_hloc.runtime.reporter import QUIET, Reporter, counted, reporting
from posfeat_hloc.sfm.choices import add_frame_pairs, choose_cameras, choose_default_pairs, choose_pairs, judge_cameras
from posfeat_hloc.sfm.diagnosis.diagnose import diagnose
from posfeat_hloc.sfm.georeference import read_georeference
from posfeat_hloc.sfm.gps import local_positions
from posfeat_hloc.sfm.inputs import (
    check_images,
    gps_positions,
    list_names,
    open_inputs,
    orient,
    tell_georeference,
)
from posfeat_hloc.sfm.job import Job, Settings
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.options import SfmOptions, complete
from posfeat_hloc.sfm.rigs import frames_of
from posfeat_hloc.sfm.stages import all_at_once, coarse_to_fine
from posfeat_hloc.sfm.summary import SfmResult, as_json


def reconstruct(
    images: Path | str | None,
    output: Path | str,
    options: SfmOptions | None = None,
    reporter: Reporter = QUIET,
) -> SfmResult:
    """Reconstruct photographs, or the frames of videos.

    Finished images, pairs and stages are kept in the output folder: the same call resumes, and
    recomputes what changed, a photograph or an option.

    Args:
        images: folder of photographs, searched recursively; None for videos alone, or for the demonstration.
        output: folder of ``features.h5``, ``matches.h5``, ``database.db``, ``sparse/`` (models, the largest first) and
            ``summary.json``.
        options: see :class:`SfmOptions`.
        reporter: hears what is done.

    Returns:
        what was made; ``models`` is empty where nothing could be reconstructed.

    Raises:
        ConfigurationError: options that do not belong together, or fewer than two images.
        PosfeatError: for anything else a user can fix.
    """
    job = start(images, output, options, reporter)
    camera = Settings.of(job.options).camera
    for model in {camera.model, *(known.model for known in camera.calibrations)}:
        check_formats(job.options.export, model)
    photographs, videos = job.photos or job.images, job.options.video or ()
    if not job.options.demo and not videos:
        check_images(job)
    job.cluster = connect(job.options.ray)
    with only_writer(job.output), reporting(reporter):
        folders = [photographs] if job.photos or not videos else []
        claim(job.output, ["demo"] if job.options.demo else [*videos, *folders])
        _stages(job)
    return job.result


def start(
    images: Path | str | None,
    output: Path | str,
    options: SfmOptions | None = None,
    reporter: Reporter = QUIET,
) -> Job:
    """A job of which nothing is done yet; arguments and errors are those of :func:`reconstruct`."""
    photographs, output = None if images is None else Path(images), Path(output)
    options = complete(options or SfmOptions(), photographs)
    if photographs is None or options.demo or options.video:
        return Job(output / "images", output, options, photographs, reporter=reporter)
    return Job(photographs, output, options, reporter=reporter)


def _stages(job: Job) -> None:
    """From images to models and ``summary.json``."""
    run, output = job.result, job.output
    send_colmap_log_to(output / "logs")
    truth = open_inputs(job)
    names = list_names(job)
    run.images = len(names)
    choose_default_pairs(job, names)
    choose_cameras(job, names)
    job.gps = gps_positions(job, names)
    job.positions = local_positions(job.gps) if job.options.gps or job.options.pairs == "gps" else None

    _extract(job, names)
    job.pairs = choose_pairs(job, names)
    if job.settings.rigs:
        job.pairs = add_frame_pairs(job.options, job.pairs, frames_of(job.settings.rigs, job.usable))
    if not coarse_to_fine(job):
        all_at_once(job)
    if run.models:
        judge_cameras(job)
        _use_model(job, truth)
    with waiting("diagnose", job.progress):
        run.diagnosis = diagnose(output / "database.db", [Path(model.path) for model in run.models], job.record)
    write_json(output / "summary.json", as_json(run, job.record))


def _extract(job: Job, names: list[str]) -> None:
    """Features of all images that can be read."""
    run, options = job.result, job.options
    run.orientation = orient(job, names)
    with run.stage("extract"):
        run.extraction = extract(
            job.settings.feature, job.images, job.features, names, options.device,
            progress=job.progress, masks=options.masks, cluster=job.cluster,
            views=run.orientation.views, exif=run.orientation.exif,
        )  # fmt: skip
    run.note_kept("extract", not run.extraction.extracted)
    job.usable = run.extraction.names
    if len(job.usable) < 2:
        reasons = counted(run.extraction.skipped)
        raise ConfigurationError(f"{job.images}: fewer than two images can be read ({reasons})")


def _use_model(job: Job, truth: dict[str, TrueCamera] | None) -> None:
    """What is wanted of the largest model besides itself."""
    largest = Path(job.result.models[0].path)
    if job.options.gps:
        tell_georeference(read_georeference(job.output / "sparse"), job)
    for name in dict.fromkeys(job.options.export):
        _export(largest, name, job)
    if truth is not None:
        job.result.against_truth = demo.compare(read_model(largest), truth)


def _export(model: Path, name: str, job: Job) -> None:
    """Write one format; what fails is said in the summary, for the model is there."""
    run = job.result
    try:
        options = ExportOptions(masks=job.options.masks, progress=job.progress)
        (path,) = export(model, [name], job.output / "export", job.images, options)
    except (PosfeatError, OSError) as error:
        run.remarks[f"export {name}"] = f"failed: {error}"
        run.failed.append(f"{Option('export', name)}: {error}")
    else:
        run.remarks[f"export {name}"] = str(path)
