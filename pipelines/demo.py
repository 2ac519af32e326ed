"""``pipelines.sfm --demo``: photographs rendered on the spot, and the model against the true cameras."""

from __future__ import annotations

import argparse
from pathlib import Path

from posfeat_hloc import demo
from posfeat_hloc.errors import MappingError
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.mapping.reconstruction import read_model

MAX_KEYPOINTS = 1500
"""Unless the user says otherwise: enough for small pictures, and far fewer than the default, and so much faster."""


def prepare(args: argparse.Namespace) -> dict[str, TrueCamera]:
    """Render into ``<output>/images``, set the options that follow from it; returns the true cameras."""
    args.output = args.output or Path("outputs") / "demo"
    args.images = args.output / "images"
    args.max_keypoints = args.max_keypoints or MAX_KEYPOINTS
    return demo.write_photographs(args.images, progress=not args.quiet)


def compare(model: Path, truth: dict[str, TrueCamera]) -> dict[str, float] | None:
    """Median errors of a model; None where it holds too few images to align."""
    try:
        return demo.relative_errors(pose_errors(read_model(model), truth), truth)
    except MappingError:
        return None
