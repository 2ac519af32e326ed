"""Photographs and a map in, poses out: features, pairs, matches, absolute poses, ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from posfeat_hloc import extractors
from posfeat_hloc.cluster import connect
from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera, localization_errors, recall
from posfeat_hloc.extract_features import extract
from posfeat_hloc.localization.localize import localize as localize_matched
from posfeat_hloc.localization.maps import SparseMap, open_map
from posfeat_hloc.localization.options import LocalizationOptions
from posfeat_hloc.localization.pair_choice import PairChoice
from posfeat_hloc.localization.queries import Asked
from posfeat_hloc.localization.query_orientation import QueryImages, orient_queries
from posfeat_hloc.localization.results import Localized, read_true_poses, result_names, write_results
from posfeat_hloc.localization.rotation_retry import TurnedInputs, one_turned, retry_turned
from posfeat_hloc.match_features import match
from posfeat_hloc.runtime.options import plain, recorded
from posfeat_hloc.runtime.output import claim, only_writer, write_json
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.sfm.summary import versions
from posfeat_hloc.stores.pairs import write_pairs

Thresholds = Sequence[tuple[float, float]]


@dataclass
class LocalizationResult:
    """What a run made.

    Attributes:
        feature: of the map.
        map: the model.
        queries: images asked for.
        skipped: images that cannot be read -> why.
        pairs: (query, map image) pairs matched.
        results: query with features -> what became of it.
        rotated_query: a query that is localized only when it is rotated, and by how many degrees, where
            other rotations are not tried for all.
        errors: against true poses, where they are known; a pose taken from the map counts as none.
        seconds: stage -> time spent in this run.
    """

    feature: str
    map: SparseMap
    queries: int
    skipped: dict[str, str] = field(default_factory=dict)
    pairs: int = 0
    results: dict[str, Localized] = field(default_factory=dict)
    rotated_query: tuple[str, int] | None = None
    errors: PoseErrors | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage."""
        return timed(self.seconds, name)

    @property
    def localized(self) -> int:
        """Number of queries whose matches gave a pose."""
        return sum(result.localized for result in self.results.values())

    @property
    def failures(self) -> dict[str, str]:
        """Query that is not localized -> why."""
        failed = {name: result.reason for name, result in self.results.items() if not result.localized}
        return {**failed, **self.skipped}


def as_json(run: LocalizationResult, thresholds: Thresholds, command: dict[str, Any]) -> dict[str, Any]:
    """The summary as ``summary.json`` holds it."""
    return {
        "queries": run.queries,
        "localized": run.localized,
        "feature": run.feature,
        "map": {"model": str(run.map.path), "images": len(run.map.names)},
        "pairs": run.pairs,
        "median_matches": middle(run, "matches"),
        "median_inliers": middle(run, "inliers"),
        "errors": None if run.errors is None else errors_as_json(run.errors, thresholds),
        "not_localized": run.failures,
        "found_when_rotated": run.rotated_query,
        "rotated": {name: result.rotation for name, result in run.results.items() if result.rotation},
        "fallback": {name: result.fallback for name, result in run.results.items() if result.fallback},
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        "command": command,
        "versions": versions(),
    }


def middle(run: LocalizationResult, what: str) -> float:
    """The median over all queries with features, localized or not."""
    return float(median([getattr(result, what) for result in run.results.values()] or [0]))


def errors_as_json(errors: PoseErrors, thresholds: Thresholds) -> dict[str, Any]:
    """Medians count queries without a pose as infinitely wrong; None where they are the half."""
    position = float(np.median(errors.position))
    known = bool(np.isfinite(position))
    return {
        "queries": len(errors.names),
        "median_position": position if known else None,
        "median_rotation": float(np.median(errors.rotation)) if known else None,
        "recall": [
            {"position": p, "rotation": r, "recall": share}
            for (p, r), share in zip(thresholds, recall(errors, thresholds), strict=True)
        ],
    }


def localize(
    map_folder: Path | str,
    queries: Path | str | Sequence[Path | str],
    output: Path | str,
    options: LocalizationOptions | None = None,
    reporter: Reporter = QUIET,
) -> LocalizationResult:
    """Localize photographs in a map, to which nothing is written.

    What was done in the output folder is kept: the same call resumes.

    Args:
        map_folder: output of :func:`posfeat_hloc.sfm.pipeline.reconstruct`, or a COLMAP model with ``map_features``.
        queries: a folder, photographs, lists of them, or patterns of such files.
        output: folder of ``poses.txt``, ``queries.jsonl`` and ``summary.json``.
        options: see :class:`LocalizationOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    map_folder, output, options = Path(map_folder), Path(output), options or LocalizationOptions()
    given = [queries] if isinstance(queries, (str, Path)) else list(queries)
    parts = open_map(map_folder, options.map_features, options.feature, options.weights)
    parts.check_extractor(extractors.create(parts.conf["model"]))
    sparse = parts.sparse()
    asked = Asked.of(given, options.images)
    result_names(asked.names, options.names)  # complains of names that would collide before the work, not after it
    truth = None if options.ground_truth is None else read_true_poses(options.ground_truth, asked.names)
    record = {"map": str(map_folder), "queries": plain(given), "output": str(output)} | recorded(options)
    with only_writer(output), reporting(reporter):
        claim(output, [map_folder])
        return _run(PairChoice(parts, sparse, asked, output, options, reporter), truth, record)


def _run(choice: PairChoice, truth: dict[str, TrueCamera] | None, record: dict[str, Any]) -> LocalizationResult:
    """The stages, one after the other."""
    parts, sparse, asked, output, options = choice.parts, choice.sparse, choice.asked, choice.output, choice.options
    cluster, progress = connect(options.ray), choice.reporter.progress
    done = LocalizationResult(parts.feature, sparse, len(asked.names))

    features, matches = output / "features.h5", output / "matches.h5"
    seconds: dict[str, float] = {}
    with timed(seconds, "orient"):
        held = QueryImages(
            asked.images, asked.names, output, options.map_images, options.device, options.masks, cluster, progress
        )
        shown = orient_queries(options.orientation, parts, sparse.names, held)
    done.seconds |= seconds if shown.looked else {}
    with done.stage("extract"):
        report = extract(
            parts.conf, asked.images, features, asked.names, options.device, progress=progress, masks=options.masks,
            cluster=cluster, views=shown.views, exif=shown.exif,
        )  # fmt: skip
    done.skipped = report.skipped
    queries = asked.with_guesses(features, report.names)
    with done.stage("pairs"):
        pairs = choice.pairs(report.names, shown=shown)
        write_pairs(output / "pairs.txt", pairs)
    done.pairs = len(pairs)
    with done.stage("match"):
        matcher = parts.matcher(options.matcher)
        match(
            matcher, pairs, features, matches, options.device, progress=progress, reference=parts.features,
            cluster=cluster,
        )  # fmt: skip
    with done.stage("localize"):
        log = output / "queries.jsonl"
        done.results = localize_matched(
            sparse, queries, pairs, features, matches, options, log, parts.features, progress, cluster
        )
    inputs = TurnedInputs(
        asked.images, queries, parts.conf, matcher, lambda turn, names: choice.pairs(names, turn),
        sparse, parts.features, options.masks, options.device, progress,
    )  # fmt: skip
    if options.try_rotations:
        with done.stage("turn"):
            done.results = retry_turned(inputs, done.results, options, output, log)
    elif any(not result.localized for result in done.results.values()):
        with done.stage("turn"):
            done.rotated_query = one_turned(inputs, done.results, options, output)
    _write(done, output, options, truth, record)
    return done


def _write(
    done: LocalizationResult,
    output: Path,
    options: LocalizationOptions,
    truth: dict[str, TrueCamera] | None,
    record: dict[str, Any],
) -> None:
    """``poses.txt`` and ``summary.json``, with the errors where true poses are known."""
    poses = {name: r.cam_from_world for name, r in done.results.items() if r.cam_from_world is not None}
    write_results(output / "poses.txt", poses, options.names)
    if truth is not None:
        done.errors = localization_errors({n: p for n, p in poses.items() if not done.results[n].fallback}, truth)
    write_json(output / "summary.json", as_json(done, options.thresholds, record))
