"""The stages of a reconstruction from features to models: with all keypoints at once, or coarse to fine.

Most of the time of a reconstruction goes into pairs that show nothing in common, and into thousands of points that the
poses do not need. A coarse model from a few keypoints, spread over each image, says where the cameras are, and so which
pairs are worth matching with all keypoints, and where in the image each match can be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pycolmap

from posfeat_hloc.detection.selection import spread
from posfeat_hloc.match_features import configuration
from posfeat_hloc.runtime.resume import hash_of
from posfeat_hloc.sfm.database import describe_database, verified_pairs
from posfeat_hloc.sfm.guided_matching import match_guided
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.models import model_folders, read_model, registered_names, summaries
from posfeat_hloc.sfm.pairs import covisibility_pairs, pose_pairs
from posfeat_hloc.sfm.reconstruction import MAPPED_BY, reconstruct
from posfeat_hloc.sfm.refinement import build_fine_database, refine_all
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair, unique_pairs, write_pairs

NEIGHBORS = 20
"""Images that an image is matched with in the fine stage, at least, where so many see the same."""

MOST_NEIGHBORS = 50
"""And at most, where the coarse stage verified more."""


def is_worthwhile(features: Path, names: Sequence[str], count: int) -> bool:
    """Whether at least half of the images have twice as many keypoints as the coarse stage takes."""
    with FeatureStore(features) as store:
        sizes = [len(store.keypoints(name)) for name in names]
    return count > 0 and 2 * sum(size >= 2 * count for size in sizes) >= len(sizes)


def write_coarse_features(features: Path, coarse: Path, names: Sequence[str], count: int) -> None:
    """Write the ``count`` strongest and best spread keypoints of each image into a feature file of their own.

    What is there already of the same features is kept.
    """
    with FeatureStore(features) as source, FeatureStore(coarse, source.configuration or {}) as store:
        for name in names:
            origin = f"{count} of {source.digest(name)}"
            if store.is_current(name, origin):
                continue
            found = source.read(name)
            kept = spread(found.keypoints, found.scores, count)
            uncertainty = source.uncertainty(name)
            size = source.image_size(name)
            store.write(name, found.chosen(kept), size, 1.0 if uncertainty is None else uncertainty, origin)
        store.commit()


def fine_pairs(models: Sequence[pycolmap.Reconstruction], verified: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs of each model's images that are worth matching with all keypoints.

    Each image is paired with those that share most points with it, and with the nearest ones that look the same way; at
    least :data:`NEIGHBORS` and at most :data:`MOST_NEIGHBORS`, otherwise as many as the coarse stage verified for it.

    Args:
        models: of the coarse stage.
        verified: pairs that the coarse stage verified, in any order.
    """
    partners = Counter(name for pair in verified for name in pair)
    result: list[list[Pair]] = []
    taken: set[Pair] = set()  # models may have images in common
    for model in models:
        result.append([pair for pair in _fine_pairs(model, partners) if pair not in taken])
        taken.update(result[-1])
    return result


def _fine_pairs(model: pycolmap.Reconstruction, partners: Counter[str]) -> list[Pair]:
    sharing, near = covisibility_pairs(model, MOST_NEIGHBORS), pose_pairs(model, NEIGHBORS // 2)
    taken: dict[str, list[Pair]] = defaultdict(list)
    for pair in (*sharing, *near):
        name = pair[0]
        wanted = min(MOST_NEIGHBORS, max(NEIGHBORS, partners[name]))
        if pair not in taken[name] and len(taken[name]) < wanted:
            taken[name].append(pair)
    return sorted(tuple(sorted(p)) for p in unique_pairs(pair for found in taken.values() for pair in found))  # type: ignore[misc]


def left_over_pairs(pairs: Sequence[Pair], registered: Collection[str]) -> list[Pair]:
    """Pairs of which at least one image is not in the largest model: they are matched with all keypoints, unguided."""
    have = set(registered)
    return [pair for pair in pairs if not have.issuperset(pair)]


def holds_poses(model: pycolmap.Reconstruction) -> bool:
    """Whether some point is seen by three images, without which the fine stage would have no points."""
    return any(point.track.length() > 2 for point in model.points3D.values())


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
    folders, key = _map_coarsely(job, output / FOLDER)
    models = [read_model(folder) for folder in folders]
    if not models or not holds_poses(models[0]):
        return False
    pairs = describe_database(output / FOLDER / "database.db").pairs
    verified = verified_pairs(output / FOLDER / "database.db")
    placed = registered_names(models[0])
    run.remarks["coarse"] = (
        f"{len(placed)} images placed by {job.options.coarse} keypoints each, {len(verified)} of {pairs} pairs verified"
    )

    posed = fine_pairs(models, verified)
    guided = unique_pairs(pair for found in posed for pair in found)
    others = [pair for pair in left_over_pairs(job.pairs, placed) if pair not in set(guided)]
    geometry = hash_of([key, {"neighbors": NEIGHBORS, "most": MOST_NEIGHBORS}])
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
    _map_finely(job, folders, models, posed, others, geometry)
    return True


def _map_coarsely(job: Job, folder: Path) -> tuple[list[Path], str]:
    """Folders of the coarse models, the largest first, and what changes with them."""
    run = job.result
    folder.mkdir(exist_ok=True)
    features, matches, database, sparse = (folder / n for n in ("features.h5", "matches.h5", "database.db", "sparse"))
    write_coarse_features(job.features, features, job.usable, job.options.coarse)
    with run.stage("match"):
        made = job.match(job.pairs, features, matches)
    run.note_kept("match", made == 0)
    key = job.key(features)
    with job.stage("verify", database, key) as needed:
        if needed:
            job.verified(database, features, matches)
    mapper = replace(job.mapper, colors=False)
    inputs = [key, asdict(mapper), MAPPED_BY]
    with job.stage("map", sparse, inputs) as needed:
        if needed:
            reconstruct(database, job.images, sparse, mapper, progress=job.progress)
    return model_folders(sparse), hash_of(inputs)


def _map_finely(
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
    with job.stage("verify finely", database, key) as needed:
        if needed:
            partial = output / "database.partial.db"
            build_fine_database(
                partial, job.images, job.features, output / "matches.h5", job.usable,
                list(zip(models, posed, strict=True)), others, job.settings.camera, job.options.seed,
                job.options.threads, progress=job.progress,
            )  # fmt: skip
            partial.replace(database)
    job.describe_database(database)
    with job.stage("map finely", sparse, job.model_inputs(key)) as needed:
        if not needed:
            run.models = summaries(sparse)
        else:
            job.reporter.say(f"refine: {len(models)} models with all keypoints ...")
            with job.placed(sparse):
                run.models = refine_all(folders, database, job.images, sparse, job.mapper, job.progress)


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
    with job.stage("verify", database, key) as needed:
        if needed:
            job.verified(database, job.features, matches)
    job.describe_database(database)
    with job.stage("map", sparse, job.model_inputs(key)) as needed:
        if not needed:
            run.models = summaries(sparse)
        else:
            with job.placed(sparse):
                run.models = reconstruct(database, job.images, sparse, job.mapper, progress=job.progress)
