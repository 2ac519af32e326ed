"""What a reconstruction made, and ``summary.json``."""

from __future__ import annotations

import json
import platform
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pycolmap

from posfeat_hloc import __version__
from posfeat_hloc.extract_features import ExtractionReport
from posfeat_hloc.orientation import Orientation
from posfeat_hloc.runtime.output import write_json
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.sfm.database import DatabaseReport
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis
from posfeat_hloc.sfm.models import ModelSummary


@dataclass
class SfmResult:
    """What a reconstruction made.

    Attributes:
        images: files found.
        orientation: how they were shown to the extractor.
        extraction: what became of each.
        pairs: image pairs matched.
        database: contents of the COLMAP database.
        models: largest first.
        against_truth: errors of the cameras where they are known; see
            :func:`posfeat_hloc.rendering.demo.relative_errors`.
        diagnosis: why images with features are not in the largest model, and what is doubtful in it.
        seconds: stage -> time spent in this run.
        kept: stages of which nothing had to be recomputed.
        remarks: title -> one more line of the summary.
        failed: what was wanted of the model and could not be made.
        messages: what was chosen for the user, or could be chosen better, as it was said during the run.
    """

    images: int = 0
    orientation: Orientation = field(default_factory=Orientation)
    extraction: ExtractionReport = field(default_factory=ExtractionReport)
    pairs: int = 0
    database: DatabaseReport | None = None
    models: list[ModelSummary] = field(default_factory=list)
    against_truth: dict[str, float] | None = None
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether there is a model with all requested exports."""
        return bool(self.models) and not self.failed

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage."""
        return timed(self.seconds, name)

    def note_kept(self, stage: str, kept: bool) -> None:
        """Remember whether a stage had nothing to do."""
        if kept:
            self.kept.add(stage)


def as_json(run: SfmResult, command: dict[str, Any]) -> dict[str, Any]:
    """The summary as ``summary.json`` holds it."""
    best = asdict(run.models[0]) if run.models else None
    return {
        "images": run.images,
        "registered": run.models[0].registered if run.models else 0,
        "model": best,
        "other_models": [asdict(model) for model in run.models[1:]],
        "pairs": run.pairs,
        "against_truth": run.against_truth,
        "verified_pairs": run.database.verified if run.database else 0,
        "verified_matches": run.database.inliers if run.database else 0,
        "cameras": run.database.cameras if run.database else 0,
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        "kept_from_earlier_run": sorted(run.kept),
        "skipped": run.extraction.skipped,
        "unregistered": unregistered(run),
        "likely_causes": [asdict(cause) for cause in run.diagnosis.causes],
        "focal_lengths_apart": run.diagnosis.focal_lengths,
        "views_from_one_side": run.diagnosis.one_side,
        "rotated": run.orientation.rotated,
        "second_sizes": run.orientation.resized,
        "notes": run.extraction.notes,
        "remarks": run.remarks,
        "messages": run.messages,
        "command": command,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what made a result, for its summary."""
    return {
        "posfeat_hloc": __version__,
        "pycolmap": pycolmap.__version__,
        "python": platform.python_version(),
    }


def unregistered(run: SfmResult) -> dict[str, str]:
    """Image with features that is not in the largest model -> why."""
    return {name: str(reason) for name, reason in run.diagnosis.reasons.items()}


def recorded_command(folder: Path) -> dict[str, Any]:
    """Options that a reconstruction was made with, empty where they are unknown."""
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("command", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def write_summary(
    output: Path,
    model: ModelSummary,
    images: Path,
    feature: str,
    record: dict[str, Any],
    origin: Path | None = None,
) -> None:
    """Write what localization and export look for in the folder of a map.

    Args:
        output: of the map.
        model: of it.
        images: folder of its photographs.
        feature: name of its features.
        record: options that it was made with.
        origin: map whose weights it has, where ``record`` names none; ``output`` itself when None.
    """
    command = record | {"images": str(images), "feature": feature}
    if command.get("weights") is None:
        command["weights"] = recorded_command(origin or output).get("weights")
    found = {"registered": model.registered, "model": asdict(model), "command": command}
    write_json(output / "summary.json", found)
