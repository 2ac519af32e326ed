"""The stages of a reconstruction from features to models, coarse to fine."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pycolmap

from posfeat_hloc.match_features import configuration
from posfeat_hloc.runtime.resume import CacheKey, hash_of
from posfeat_hloc.sfm.coarse_to_fine import (
    describe,
    fine_pairs,
    holds_poses,
    is_worthwhile,
    left_over_pairs,
    settings,
    write_coarse_features,
)
from posfeat_hloc.sfm.database import describe_database, verified_pairs
from posfeat_hloc.sfm.guided_matching import match_guided
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.model_views import registered_names
from posfeat_hloc.sfm.reconstruction import MAPPED_BY, read_model, reconstruct
from posfeat_hloc.sfm.refinement import build_fine_database, refine_all
from posfeat_hloc.sfm.stages import model_folders, summaries
from posfeat_hloc.stores.pairs import Pair, unique_pairs, write_pairs

MATCHERS = ("nearest", "dual_softmax")
"""Those whose matches neighbours along epipolar lines can take the place of."""

FOLDER = "coarse"
"""In the output folder: features, matches, database and models of the coarse stage."""


def coarse_to_fine(job: Job) -> bool:
    """Make ``database.db`` and ``sparse``; false where a coarse stage saves nothing or gives no model."""
    run, output = job.result, job.output
    if job.settings.rigs or job.settings.matcher["model"]["name"] not in MATCHERS:
        return False
    if not is_worthwhile(job.features, job.usable, job.options.coarse):
        return False
    folders, key = _coarse(job, output / FOLDER)
    models = [read_model(folder) for folder in folders]
    if not models or not holds_poses(models[0]):
        return False
    pairs = describe_database(output / FOLDER / "database.db").pairs
    verified = verified_pairs(output / FOLDER / "database.db")
    run.remarks["coarse"] = describe(job.options.coarse, models, len(verified), pairs)

    posed = fine_pairs(models, verified)
    guided = unique_pairs(pair for found in posed for pair in found)
    others = [pair for pair in left_over_pairs(job.pairs, registered_names(models[0])) if pair not in set(guided)]
    geometry = hash_of([key, settings()])
    matches = output / "matches.h5"
    write_pairs(output / "pairs.txt", [*guided, *others])
    run.pairs = len(guided) + len(others)
    with run.stage("match finely"):
        made = job.match(others, job.features, matches) if others else 0
        for model, found in zip(models, posed, strict=True):
            record = configuration(job.settings.matcher)
            made += match_guided(
                model, found, job.features, matches, record, geometry, job.progress, job.options.memory
            ).matched
    run.note_kept("match finely", made == 0)
    _fine(job, folders, models, posed, others, geometry)
    return True


def _coarse(job: Job, folder: Path) -> tuple[list[Path], str]:
    """Folders of the coarse models, the largest first, and what changes with them."""
    run = job.result
    folder.mkdir(exist_ok=True)
    features, matches, database, sparse = (folder / n for n in ("features.h5", "matches.h5", "database.db", "sparse"))
    write_coarse_features(job.features, features, job.usable, job.options.coarse)
    with run.stage("match"):
        made = job.match(job.pairs, features, matches)
    run.note_kept("match", made == 0)
    key = job.key(features)
    with run.stage("verify"), CacheKey(database, key) as stage:
        run.note_kept("verify", stage.is_valid)
        if not stage.is_valid:
            job.verified(database, features, matches)
    mapper = replace(job.mapper, colors=False)
    inputs = [key, asdict(mapper), MAPPED_BY]
    with run.stage("map"), CacheKey(sparse, inputs) as stage:
        run.note_kept("map", stage.is_valid)
        if not stage.is_valid:
            reconstruct(database, job.images, sparse, mapper, progress=job.progress)
    return model_folders(sparse), hash_of(inputs)


def _fine(
    job: Job,
    folders: list[Path],
    models: list[pycolmap.Reconstruction],
    posed: list[list[Pair]],
    others: list[Pair],
    geometry: str,
) -> None:
    run, output = job.result, job.output
    database, sparse = output / "database.db", output / "sparse"
    key = hash_of([job.key(job.features), geometry])
    with run.stage("verify finely"), CacheKey(database, key) as stage:
        run.note_kept("verify finely", stage.is_valid)
        if not stage.is_valid:
            partial = output / "database.partial.db"
            build_fine_database(
                partial, job.images, job.features, output / "matches.h5", job.usable,
                list(zip(models, posed, strict=True)), others, job.settings.camera, job.options.seed,
                job.options.threads, progress=job.progress,
            )  # fmt: skip
            partial.replace(database)
    job.describe_database(database)
    with run.stage("map finely"), CacheKey(sparse, job.model_inputs(key)) as stage:
        run.note_kept("map finely", stage.is_valid)
        if stage.is_valid:
            run.models = summaries(sparse)
        else:
            job.reporter.say(f"refine: {len(models)} models with all keypoints ...")
            with job.placed(sparse):
                run.models = refine_all(folders, database, job.images, sparse, job.mapper, job.progress)
