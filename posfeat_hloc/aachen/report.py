"""What a run of the benchmark made: for the terminal, and for ``summary.json``."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pycolmap

from posfeat_hloc import __version__
from posfeat_hloc.aachen.layout import Dataset
from posfeat_hloc.evaluation.options import Threshold
from posfeat_hloc.evaluation.poses import PoseErrors, recall
from posfeat_hloc.extract_features import ExtractionReport
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.runtime.reporter import entry, listing
from posfeat_hloc.sfm.models import ModelSummary


@dataclass
class Trial:
    """One run of the random part.

    Attributes:
        seed: of it.
        model: the triangulated map.
        results: file for the benchmark's site.
        localized: number of queries with a pose.
        failed: query -> why it has none.
        recall: ``day``, ``night`` -> part of the queries within each threshold, where true poses are known.
        median: ``day``, ``night`` -> median position error, in the unit of the map, and degrees; None where fewer than
            half of the queries have a pose.
    """

    seed: int
    model: ModelSummary
    results: str
    localized: int
    failed: dict[str, str] = field(default_factory=dict)
    recall: dict[str, list[float]] = field(default_factory=dict)
    median: dict[str, tuple[float, float] | None] = field(default_factory=dict)

    def judge(self, kind: str, errors: PoseErrors, thresholds: Sequence[Threshold]) -> None:
        """Note the recall and the median error of queries whose true poses are known."""
        self.recall[kind] = recall(errors, thresholds)
        middle = float(np.median(errors.position)), float(np.median(errors.rotation))
        self.median[kind] = middle if np.isfinite(middle[0]) else None


@dataclass
class Report:
    """A run of one protocol.

    Attributes:
        dataset: on which.
        feature: name of the conf.
        extraction: what became of each image.
        database_pairs, query_pairs: pairs matched.
        notes: what else a user should know.
        trials: one for each seed.
        thresholds: of the recall.
        seconds: stage -> time spent in this run, all seeds together.
        kept: stages of which nothing had to be recomputed.
    """

    dataset: Dataset
    feature: str
    extraction: ExtractionReport = field(default_factory=ExtractionReport)
    database_pairs: int = 0
    query_pairs: int = 0
    notes: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    thresholds: Sequence[Threshold] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    kept: dict[str, bool] = field(default_factory=dict)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Add to the time of a stage."""
        return timed(self.seconds, name)

    def note_kept(self, stage: str, kept: bool) -> None:
        """A stage counts as kept when each of its parts does."""
        self.kept[stage] = self.kept.get(stage, True) and kept

    def spread(self) -> dict[str, list[tuple[float, float]]]:
        """``day``, ``night`` -> mean and sample standard deviation of the recall at each threshold, over the seeds."""
        kinds = self.trials[0].recall if self.trials else {}
        result = {}
        for kind in kinds:
            columns = zip(*(trial.recall[kind] for trial in self.trials), strict=True)
            result[kind] = [(statistics.fmean(c), statistics.stdev(c) if len(c) > 1 else 0.0) for c in columns]
        return result

    def as_json(self, command: dict[str, Any]) -> dict[str, Any]:
        """The summary as ``summary.json`` holds it."""
        return {
            "dataset": {
                "folder": str(self.dataset.root),
                "version": self.dataset.version,
                "protocol": self.dataset.protocol,
                "database_images": len(self.dataset.database_names),
                "queries": len(self.dataset.query_names),
            },
            "database_pairs": self.database_pairs,
            "query_pairs": self.query_pairs,
            "trials": [asdict(trial) for trial in self.trials],
            "thresholds": [list(threshold) for threshold in self.thresholds],
            "recall": {
                kind: [{"mean": mean, "deviation": deviation} for mean, deviation in columns]
                for kind, columns in self.spread().items()
            },
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "kept_from_earlier_run": sorted(stage for stage, kept in self.kept.items() if kept),
            "skipped": self.extraction.skipped,
            "notes": self.notes,
            "command": {key: value if _is_plain(value) else str(value) for key, value in command.items()},
            "versions": {
                "posfeat_hloc": __version__,
                "pycolmap": pycolmap.__version__,
                "python": platform.python_version(),
            },
        }

    def as_text(self) -> str:
        """The summary as the terminal shows it."""
        queries = len(self.dataset.query_names)
        lines = ["", f"Aachen {self.dataset.version}, {self.dataset.protocol} protocol, {self.feature}"]
        for trial in self.trials:
            lines.append(
                f"  seed {trial.seed:<14} {trial.localized} of {queries} queries localized, "
                f"{trial.model.points} points in the map, {trial.model.reprojection_error:.2f} px"
            )
        lines += self._recall()
        times = (
            f"{stage} kept" if self.kept.get(stage) else f"{stage} {seconds:.1f} s"
            for stage, seconds in self.seconds.items()
        )
        lines += entry("time", ", ".join(times))
        for note in self.notes:
            lines += entry("note", note)
        failed = self.trials[-1].failed if self.trials else {}
        for title, items in (("could not be read", self.extraction.skipped), ("not localized", failed)):
            lines += listing(title, items)
        for trial in self.trials:
            lines += entry("result file", trial.results)
        return "\n".join(lines)

    def _recall(self) -> list[str]:
        spread = self.spread()
        if not spread:
            return []
        limits = "".join(f"{f'({far:g}, {turn:g}°)':>16}" for far, turn in self.thresholds)
        lines = [f"  recall in %         {limits}"]
        for kind, columns in spread.items():
            values = (
                f"{100 * mean:.1f} ± {100 * deviation:.1f}" if len(self.trials) > 1 else f"{100 * mean:.1f}"
                for mean, deviation in columns
            )
            lines.append(f"    {kind:<18}" + "".join(f"{value:>16}" for value in values))
        for kind in spread:
            medians = [middle for trial in self.trials if (middle := trial.median[kind]) is not None]
            if len(medians) == len(self.trials):
                position, angle = (statistics.fmean(values) for values in zip(*medians, strict=True))
                lines.append(f"  median error        {position:.4g}, {angle:.3g}° ({kind})")
        return lines


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
