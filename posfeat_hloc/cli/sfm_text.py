"""The summary of a reconstruction, as the terminal shows it."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from posfeat_hloc.runtime.reporter import listing
from posfeat_hloc.sfm.summary import SfmResult, unregistered


def as_text(run: SfmResult, feature: str, images: Path, output: Path) -> str:
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
                f"  camera errors       {turned:.3f} degrees, {moved:.2f} % of the path of the cameras (medians)"
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
        ("not in this model", unregistered(run)),
        ("note", run.extraction.notes),
    ):
        lines += listing(title, items)
    for cause in run.diagnosis.causes:
        count = "1 image" if len(cause.images) == 1 else f"{len(cause.images)} images"
        text = f"{cause.name} ({count}); {'try ' if cause.options else ''}{cause.remedies}"
        lines += _hint("likely cause", text)
    if (told := run.diagnosis.about_focal_lengths) is not None:
        lines += _hint("focal lengths", told)
    if (told := run.diagnosis.about_one_side) is not None and run.against_truth is None:
        lines += _hint("one side", told)
    lines.append(f"  details             {output / 'summary.json'}")
    return "\n".join(lines)


def _hint(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=f"  {title:<18}  ", subsequent_indent=22 * " ")
