"""Cameras of a reconstruction: chosen and checked before the work, judged after it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.sfm_options import Settings
from pipelines.summary import Run
from posfeat_hloc.images.panoramas import are_panoramas
from posfeat_hloc.sfm.cameras import PANORAMA, check_cameras, sizes_of_files
from posfeat_hloc.sfm.diagnosis.camera_check import doubtful_cameras, told
from posfeat_hloc.sfm.reconstruction import read_model


def choose_cameras(args: argparse.Namespace, names: Sequence[str], run: Run) -> Settings:
    """The settings of a run for these images: panoramas are known as such, and intrinsics must fit.

    Raises:
        ConfigurationError: see :func:`posfeat_hloc.sfm.cameras.check_cameras`, or an ``--export`` that has no such
            camera model.
    """
    if args.camera_model is None and args.camera_params is None and are_panoramas(args.images, names):
        args.camera_model = PANORAMA
        _tell(run, "panoramas", f"taken as such (--camera-model {PANORAMA}); --camera-model says otherwise", args.quiet)
    settings = Settings.of(args)
    camera = settings.camera
    if camera.params is not None or camera.calibrations or camera.mode in ("single", "folder"):
        notes = check_cameras(sizes_of_files(args.images, names), camera)
        if notes:
            more = f"; and {len(notes) - 3} more" if len(notes) > 3 else ""
            _tell(run, "intrinsics", "; ".join(notes[:3]) + more, args.quiet)
    return settings


def judge_cameras(run: Run, settings: Settings) -> None:
    """Say which cameras of the largest model cannot be right, or are not determined."""
    model = read_model(Path(run.models[0].path))
    for number, text in enumerate(told(doubtful_cameras(model, settings.mapper.refine_intrinsics), len(model.cameras))):
        run.remarks[f"camera{' again' if number else ''}"] = text


def _tell(run: Run, title: str, text: str, quiet: bool) -> None:
    run.remarks[title] = text
    if not quiet:
        print(f"note: {title} {text}", flush=True)
