"""``pipelines.sfm --demo``: photographs rendered on the spot, and the model against the true cameras."""

from __future__ import annotations

from pathlib import Path

from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.rendering import demo
from posfeat_hloc.sfm.reconstruction import read_model

Truth = dict[str, TrueCamera]
"""The true camera of each image."""

MAX_KEYPOINTS = 1500
"""Unless the user says otherwise: enough for small pictures, and far fewer than the default, and so much faster."""


def compare(model: Path, truth: Truth) -> dict[str, float] | None:
    """Median errors of a model; None where it holds too few images to align."""
    try:
        return demo.relative_errors(pose_errors(read_model(model), truth), truth)
    except MappingError:
        return None
