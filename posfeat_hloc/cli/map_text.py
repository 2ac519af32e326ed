"""A map, as the terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posfeat_hloc.sfm.models import ModelSummary


def described(model: ModelSummary) -> list[str]:
    """What a model holds."""
    return [
        f"  points              {model.points:,}".replace(",", " "),
        f"  track length        {model.track_length:.2f} observations in {model.images_per_point:.2f} images",
        f"  reprojection error  {model.reprojection_error:.2f} px",
        f"  model               {model.path}",
    ]
