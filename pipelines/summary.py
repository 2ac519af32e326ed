"""The summary of a reconstruction, for the terminal and for ``summary.json``."""

from __future__ import annotations

import platform
import shlex
import textwrap
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pycolmap

from posfeat_hloc import __version__
from posfeat_hloc.extract_features import ExtractionReport
from posfeat_hloc.orientation import Orientation
from posfeat_hloc.runtime.timing import timed
from posfeat_hloc.sfm.database import DatabaseReport
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis
from posfeat_hloc.sfm.reconstruction import ModelSummary

_FEW = 3
"""Reasons that are told one by one."""


@dataclass
class Run:
    """What a reconstruction made.

    Attributes:
        images: files found.
        orientation: how they were shown to the extractor.
        extraction: what became of each.
        pairs: image pairs matched.
        database: contents of the COLMAP database.
        models: largest first.
        against_truth: errors of the cameras where they are known, see
            :func:`posfeat_hloc.rendering.demo.relative_errors`.
        diagnosis: why images with features are not in the largest model, and what is doubtful in it.
        seconds: stage -> time spent in this run.
        kept: stages of which nothing had to be made anew.
        remarks: title -> one more line of the summary.
        failed: what was wanted of the model and could not be made.
        told: what was chosen for the user, or could be chosen better, as it was said during the run.
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
    told: list[str] = field(default_factory=list)

    def tell(self, note: str) -> None:
        """Say something now, and remember it for ``summary.json``."""
        self.told.append(note)
        print(f"note: {note}", flush=True)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage."""
        return timed(self.seconds, name)

    def note_kept(self, stage: str, kept: bool) -> None:
        """Remember whether a stage had nothing to do."""
        if kept:
            self.kept.add(stage)


def as_json(run: Run, command: dict[str, Any]) -> dict[str, Any]:
    """The summary as ``summary.json`` holds it."""
    best = run.models[0].as_dict() if run.models else None
    return {
        "images": run.images,
        "registered": run.models[0].registered if run.models else 0,
        "model": best,
        "other_models": [model.as_dict() for model in run.models[1:]],
        "pairs": run.pairs,
        "against_truth": run.against_truth,
        "verified_pairs": run.database.verified if run.database else 0,
        "verified_matches": run.database.inliers if run.database else 0,
        "cameras": run.database.cameras if run.database else 0,
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        "kept_from_earlier_run": sorted(run.kept),
        "skipped": run.extraction.skipped,
        "unregistered": _unregistered(run),
        "likely_causes": [asdict(cause) for cause in run.diagnosis.causes],
        "focal_lengths_apart": run.diagnosis.focal_lengths,
        "views_from_one_side": run.diagnosis.one_side,
        "turned": run.orientation.turned,
        "second_sizes": run.orientation.resized,
        "notes": run.extraction.notes,
        "remarks": run.remarks,
        "told": run.told,
        "command": {k: _plain(v) for k, v in command.items()},
        "versions": {
            "posfeat_hloc": __version__,
            "pycolmap": pycolmap.__version__,
            "python": platform.python_version(),
        },
    }


def _plain(value: Any) -> Any:
    """An option as JSON holds it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def as_text(run: Run, feature: str, images: Path, output: Path) -> str:
    """The summary as the terminal shows it."""
    lines = [""]
    if run.models:
        best = run.models[0]
        lines += [
            f"{best.registered} of {run.images} images reconstructed with {feature}",
            f"  points              {best.points:,}".replace(",", " "),
            f"  track length        {best.track_length:.2f} observations in {best.images_per_point:.2f} images",
            f"  reprojection error  {best.reprojection_error:.2f} px",
            f"  model               {best.path}",
            "  open it             colmap gui"
            f" --import_path {shlex.quote(best.path)} --image_path {shlex.quote(str(images))}"
            f" --database_path {shlex.quote(str(output / 'database.db'))}",
        ]
        if (found := run.against_truth) is not None:
            turned, moved = found["median_rotation"], 100 * found["median_position"]
            lines.append(
                f"  off the truth       {turned:.3f} degrees, {moved:.2f} % of the path of the cameras (medians)"
            )
        for model in run.models[1:]:
            lines.append(f"  another model       {model.path}: {model.registered} images, {model.points} points")
    else:
        lines.append(f"no model: none of {run.images} images could be reconstructed")
    if run.database is not None:
        lines.append(f"  verified pairs      {run.database.verified} of {run.pairs}")
    lines += [f"  {title:<18}  {text}" for title, text in run.remarks.items()]
    times = ", ".join(
        f"{stage} kept" if stage in run.kept else f"{stage} {seconds:.1f} s" for stage, seconds in run.seconds.items()
    )
    lines.append(f"  time                {times}")
    for title, items in (
        ("could not be read", run.extraction.skipped),
        ("not in this model", _unregistered(run)),
        ("note", run.extraction.notes),
    ):
        lines += listing(title, items)
    for cause in run.diagnosis.causes:
        count = "1 image" if len(cause.images) == 1 else f"{len(cause.images)} images"
        text = f"{cause.name} ({count}); {'try ' if cause.options else ''}{cause.advice}"
        lines += _hint("likely cause", text)
    if (told := run.diagnosis.about_focal_lengths) is not None:
        lines += _hint("focal lengths", told)
    if (told := run.diagnosis.about_one_side) is not None:
        lines += _hint("one side", told)
    lines.append(f"  details             {output / 'summary.json'}")
    return "\n".join(lines)


def _hint(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"  {title:<18}  ", subsequent_indent=22 * " ")


def _unregistered(run: Run) -> dict[str, str]:
    return {name: str(reason) for name, reason in run.diagnosis.reasons.items()}


def counted(reasons: dict[str, str]) -> str:
    """Why several files cannot be used: each kind of reason once, with the number of its files and one of them.

    Args:
        reasons: name -> a sentence, which may begin with the path of the file.
    """
    kinds: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        path, colon, rest = reason.partition(": ")
        known = colon and path.replace("\\", "/").endswith(name)
        kinds.setdefault((rest if known else reason).replace(name, "..."), []).append(name)
    if len(reasons) <= _FEW:
        return "; ".join(reasons.values())
    ranked = sorted(kinds.items(), key=lambda item: -len(item[1]))
    told = [f"{len(names)} times: {reason} (such as {names[0]})" for reason, names in ranked[:_FEW]]
    return "; ".join([*told, *([f"and {len(ranked) - _FEW} more reasons"] if len(ranked) > _FEW else [])])


def listing(title: str, items: dict[str, str], limit: int = 10) -> list[str]:
    """The first of several names with what is to be said of them."""
    if not items:
        return []
    lines = [f"  {title} ({len(items)})"]
    lines += [f"    {name}: {reason}" for name, reason in list(items.items())[:limit]]
    if len(items) > limit:
        lines.append(f"    ... and {len(items) - limit} more; {counted(items)}")
    return lines
