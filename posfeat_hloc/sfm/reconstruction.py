"""Structure from motion on a verified COLMAP database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pycolmap

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.runtime.progress import Bar, waiting
from posfeat_hloc.sfm.coarse_keypoints import MOST_TRIED_AGAIN, TRIALS, allow, finish, hold_intrinsics, support
from posfeat_hloc.sfm.database import verified_ids
from posfeat_hloc.sfm.models import ModelSummary, color_points, write_model, write_ranked
from posfeat_hloc.sfm.options import Mapper

MAPPED_BY = 4
"""Grows when mapping here changes, so that models are reconstructed again."""
MAPPERS = get_args(Mapper)


@dataclass(frozen=True)
class MapperOptions:
    """How a database becomes models; what is not named here has COLMAP's defaults."""

    mapper: str = "incremental"
    """``incremental``, ``global`` (GLOMAP) or ``hierarchical``."""
    seed: int = 0
    """Of all random choices; with ``threads=1`` two runs give the same model to the last digit."""
    threads: int = -1
    """-1 for all cores."""
    min_model_size: int = 3
    """Smaller models are dropped (COLMAP: 10, which loses small collections that split); of two images, or where no
    point is seen by three, models of two images are kept."""
    refine_intrinsics: bool = True
    """Whether bundle adjustment changes focal lengths and distortion."""
    colors: bool = True
    """Whether points get the colors of the photographs."""
    keypoint_noise: float = 0.0
    """Standard deviation of coarse keypoints in pixels (:func:`~posfeat_hloc.sfm.coarse_keypoints.coarse_noise`), 0 for
    finer ones: thresholds follow it (but for the global mapper's), intrinsics are refined when all images are there, a
    point keeps one observation an image, and of small collections the best of several models is taken."""

    def __post_init__(self) -> None:
        if self.mapper not in MAPPERS:
            raise ConfigurationError(f"mapper {self.mapper!r} does not exist; choose from {', '.join(MAPPERS)}")


def reconstruct(
    database: Path,
    images: Path,
    output: Path,
    options: MapperOptions | None = None,
    progress: bool = True,
) -> list[ModelSummary]:
    """Build models and write them to ``output/0``, ``output/1``, ..., the one with most images first.

    ``output`` is replaced as a whole when the mapper has finished, never before.

    Returns:
        a summary of each model; empty when no model could be built.

    Raises:
        MappingError: COLMAP failed.
    """
    options = options or MapperOptions()
    partial = output.with_name(output.name + ".partial")
    for stale in (partial, output):
        shutil.rmtree(stale, ignore_errors=True)
    working = partial / "colmap"
    working.mkdir(parents=True)
    pycolmap.set_random_seed(options.seed)
    try:
        coarse = options.keypoint_noise > 0
        models = (_best_of_coarse if coarse else _run)(database, images, working, options, progress)
    except (RuntimeError, ValueError) as error:
        raise MappingError(
            f"{database}: COLMAP's {options.mapper} mapper failed ({error}); see the newest file in logs/"
        ) from error
    for model in models.values() if options.colors else []:
        color_points(model, images, colored=True)
    shutil.rmtree(working)
    return write_ranked(models.values(), partial, output)


def _best_of_coarse(
    database: Path, images: Path, output: Path, options: MapperOptions, progress: bool
) -> dict[int, pycolmap.Reconstruction]:
    """Models of coarse keypoints, finished; of small collections those with most support among several seeds.

    Threads of COLMAP add numbers up in any order, and a bent model is only a rounding away: small collections have one.
    """
    with pycolmap.Database.open(database) as db:
        few = db.num_images() <= MOST_TRIED_AGAIN
    found = []
    for trial in range(TRIALS if few and options.mapper != "global" else 1):
        seeded = replace(options, seed=options.seed + trial, threads=1 if few else options.threads)
        folder = output / f"trial{trial}"
        folder.mkdir()
        pycolmap.set_random_seed(seeded.seed)
        models = _run(database, images, folder, seeded, progress)
        for model in models.values():
            finish(model, database, incremental_options(seeded))
        found.append(models)
    return max(found, key=lambda models: max(map(support, models.values()), default=(0, 0)))


def _run(
    database: Path, images: Path, output: Path, options: MapperOptions, progress: bool
) -> dict[int, pycolmap.Reconstruction]:
    """Models whose points are seen by three images; where there are none, such of points seen by two."""
    with pycolmap.Database.open(database) as db:
        total, related = db.num_images(), db.num_verified_image_pairs()
    if total > 2:
        models = _run_with(database, images, output, options, progress, two_views=False)
        if any(model.num_points3D() for model in models.values()) or not related:
            return models
        shutil.rmtree(output)
        output.mkdir()
    return _run_with(database, images, output, options, progress, two_views=True) if related else {}


def _run_with(
    database: Path, images: Path, output: Path, options: MapperOptions, progress: bool, two_views: bool
) -> dict[int, pycolmap.Reconstruction]:
    """Models of the mapper that is asked for; of points in two images always by the incremental one."""
    if options.mapper == "global" and not two_views:
        with waiting("map", progress):
            return _run_global(database, images, output, options)
    incremental = incremental_options(options)
    if options.keypoint_noise:
        hold_intrinsics(incremental)
    if two_views:
        incremental.min_model_size = 2
        incremental.triangulation.ignore_two_view_tracks = False
    elif options.mapper == "hierarchical":
        hierarchical = pycolmap.HierarchicalPipelineOptions()
        hierarchical.incremental_options = incremental
        hierarchical.num_workers = options.threads
        with waiting("map", progress):
            return pycolmap.hierarchical_mapping(database, images, output, hierarchical)
    return _run_incremental(database, images, output, incremental, progress)


def incremental_options(options: MapperOptions) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options of incremental mapping, of its adjustments and its triangulation."""
    incremental = pycolmap.IncrementalPipelineOptions()
    incremental.random_seed = options.seed
    incremental.num_threads = options.threads
    incremental.min_model_size = options.min_model_size
    incremental.ba_global_function_tolerance = 1e-6  # COLMAP's 0 takes all iterations, whatever they gain
    incremental.ba_refine_focal_length = options.refine_intrinsics
    incremental.ba_refine_extra_params = options.refine_intrinsics
    incremental.ba_refine_sensor_from_rig = False  # what a rig configuration says is known
    incremental.mapper.abs_pose_refine_focal_length = options.refine_intrinsics
    incremental.mapper.abs_pose_refine_extra_params = options.refine_intrinsics
    incremental.extract_colors = options.colors
    allow(incremental, options.keypoint_noise)
    return incremental


def _run_incremental(
    database: Path, images: Path, output: Path, options: pycolmap.IncrementalPipelineOptions, progress: bool
) -> dict[int, pycolmap.Reconstruction]:
    """All images by 3D points first, and then those left over by 2D matches alone, from the largest model.

    Structure-less registration takes minutes of RANSAC while a model is small and its start may be wrong.
    """
    with pycolmap.Database.open(database) as db:
        total = db.num_images()
    with Bar(total=total, desc="map", unit="image", disable=not progress) as bar:
        first, following = _counters(bar)

        def run(folder: Path, start: Path | str = "") -> dict[int, pycolmap.Reconstruction]:
            folder.mkdir(exist_ok=True)
            return pycolmap.incremental_mapping(
                database,
                images,
                folder,
                options,
                input_path=start,
                initial_image_pair_callback=first,
                next_image_callback=following,
            )

        if not hasattr(options, "structure_less_registration_fallback"):  # before pycolmap 4
            return run(output)
        options.structure_less_registration_fallback = False
        models = run(output)
        if not models:
            return models
        number, largest = max(models.items(), key=lambda item: item[1].num_reg_images())
        if has_left_over(database, largest):
            options.structure_less_registration_fallback = True
            options.multiple_models = False
            start = output / "largest"
            start.mkdir()
            write_model(largest, start)
            grown = run(output / "grown", start)
            models[number] = max([largest, *grown.values()], key=lambda model: model.num_reg_images())
        return models


def has_left_over(database: Path, model: pycolmap.Reconstruction) -> bool:
    """Whether a verified pair joins an image of the model with one that is not in it."""
    registered = set(model.reg_image_ids())
    with pycolmap.Database.open(database) as db:
        return any((a in registered) != (b in registered) for a, b, _ in verified_ids(db))


def _run_global(
    database: Path, images: Path, output: Path, options: MapperOptions
) -> dict[int, pycolmap.Reconstruction]:
    global_options = pycolmap.GlobalPipelineOptions()
    global_options.random_seed = options.seed
    global_options.num_threads = options.threads
    global_options.min_model_size = options.min_model_size
    adjustment = global_options.mapper.bundle_adjustment
    adjustment.refine_focal_length = options.refine_intrinsics
    adjustment.refine_extra_params = options.refine_intrinsics
    adjustment.refine_sensor_from_rig = False
    return pycolmap.global_mapping(database, images, output, global_options)


def _counters(bar: Bar) -> tuple[Callable[[], None], Callable[[], None]]:  # type: ignore[type-arg]
    """Callbacks that count registered images; a further model starts at its first pair."""

    def advance(count: int) -> None:
        bar.update(min(count, (bar.total or 0) - bar.n))

    return lambda: advance(2), lambda: advance(1)
