"""What a localization made, and ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from posfeat_hloc.evaluation.poses import PoseErrors, recall
from posfeat_hloc.localization.results_log import Localized
from posfeat_hloc.localization.sparse_map import SparseMap
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.sfm.summary import versions

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
        turned_query: a query that is localized only when it is turned, and by how many degrees, where
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
    turned_query: tuple[str, int] | None = None
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
        "found_when_turned": run.turned_query,
        "turned": {name: result.turned for name, result in run.results.items() if result.turned},
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
