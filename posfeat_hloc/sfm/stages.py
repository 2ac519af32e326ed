"""The stages of a reconstruction from features to models, with all keypoints at once."""

from __future__ import annotations

from pathlib import Path

from posfeat_hloc.runtime.resume import CacheKey
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.reconstruction import ModelSummary, read_model, reconstruct, summarize
from posfeat_hloc.stores.pairs import write_pairs


def all_at_once(job: Job) -> None:
    """Make ``matches.h5``, ``database.db`` and ``sparse`` from all keypoints."""
    run, output = job.result, job.output
    matches, database, sparse = output / "matches.h5", output / "database.db", output / "sparse"
    run.pairs = len(job.pairs)
    write_pairs(output / "pairs.txt", job.pairs)
    with run.stage("match"):
        made = job.match(job.pairs, job.features, matches)
    run.note_kept("match", made == 0)
    key = job.key(job.features)
    with run.stage("verify"), CacheKey(database, key) as stage:
        run.note_kept("verify", stage.is_valid)
        if not stage.is_valid:
            job.verified(database, job.features, matches)
    job.describe_database(database)
    with run.stage("map"), CacheKey(sparse, job.model_inputs(key)) as stage:
        run.note_kept("map", stage.is_valid)
        if stage.is_valid:
            run.models = summaries(sparse)
        else:
            with job.placed(sparse):
                run.models = reconstruct(database, job.images, sparse, job.mapper, progress=job.progress)


def model_folders(sparse: Path) -> list[Path]:
    """Folders of models, in their order."""
    return sorted((path for path in sparse.iterdir() if path.is_dir()), key=lambda path: int(path.name))


def summaries(sparse: Path) -> list[ModelSummary]:
    """Of models that were made before."""
    return [summarize(read_model(folder), folder) for folder in model_folders(sparse)]
