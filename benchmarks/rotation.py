"""Reconstructions of photographs that were turned, beside the same ones upright.

    python benchmarks/rotation.py --images fountain-P11/images door/images --output runs/rotation
    python benchmarks/rotation.py --images lund/images --turned quarter --orientation auto exif --output runs/rotation
    python benchmarks/rotation.py --images */images --votes --max-size 640 --output runs/rotation

``quarter``: each photograph is turned at random by quarter turns; beside ``upright``. ``any``: by any angle, and cut to
the square that every turn leaves whole; beside ``square``, the same cut without a turn. Copies are made at --max-size;
finished stages are kept. Errors are those of cameras against the model of the same feature without turns, with turns
accounted for. ``--votes``: no reconstructions, only what is turned, and what of it rightly.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc import confs
from posfeat_hloc.errors import MappingError, PosfeatError
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.orientation import MODES, choose_views
from posfeat_hloc.orientation.looks import clockwise
from posfeat_hloc.orientation.votes import wrapped
from posfeat_hloc.runtime.options import OrientationMode
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.options import SfmOptions
from posfeat_hloc.sfm.pipeline import reconstruct
from posfeat_hloc.sfm.summary import SfmResult

BESIDE = {"quarter": "upright", "any": "square"}
"""What turned photographs are compared with."""

ALIKE = 30.0
"""Degrees that images which lie alike are off their common direction at most."""

RECONSTRUCTED = (
    "photographs", "feature", "registered", "points", "images a point", "verified pairs", "error", "turned",
    "orient / extract",
)  # fmt: skip
VOTED = "photographs", "images", "looked at", "pairs compared", "turned", "alike afterwards", "CPU s"


@dataclass(frozen=True)
class Task:
    """One reconstruction."""

    images: Path
    output: Path
    feature: str
    orientation: OrientationMode
    max_keypoints: int

    def run(self) -> SfmResult:
        """Reconstruct, or take what is there."""
        options = SfmOptions(
            feature=self.feature, orientation=self.orientation, max_keypoints=self.max_keypoints, camera="image"
        )  # fmt: skip
        return reconstruct(self.images, self.output, options)


def turned(pixels: NDArray[np.uint8], how: str, angle: float) -> NDArray[np.uint8]:
    """``(H, W, 3)`` pixels, turned clockwise by an angle in degrees, cut to a square for ``any`` and ``square``."""
    height, width = pixels.shape[:2]
    if how in ("upright", "quarter"):
        return np.ascontiguousarray(np.rot90(pixels, -round(angle / 90)))
    side = int(min(height, width) / np.sqrt(2))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = clockwise(angle)
    matrix[:, 2] = (side - 1) / 2 - matrix[:, :2] @ centre
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC), np.uint8)


def copies(images: Path, output: Path, how: str, size: int, seed: int) -> dict[str, float]:
    """Write turned copies as PNG; returns the angle of each in degrees clockwise."""
    output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    angles = {}
    for number, name in enumerate(list_images(images)):
        angle = 90.0 * rng.integers(4) if how == "quarter" else rng.uniform(0, 360) if how == "any" else 0.0
        copy = f"{number:04}.png"
        angles[copy] = float(angle)
        if not (output / copy).exists():
            pixels = turned(resize(read_image(images / name).pixels, size), how, angle)
            cv2.imwrite(str(output / copy), pixels[..., ::-1])
    return angles


def errors(model: Path, truth: Path, angles: dict[str, float]) -> str:
    """Median error of cameras against a model without turns: percent of the path's extent, and degrees."""
    cameras = {}
    for image in read_model(truth).images.values():
        if image.has_pose:
            roll = np.eye(3)
            roll[:2, :2] = clockwise(angles[image.name])
            pose = image.cam_from_world()
            cameras[image.name] = TrueCamera(roll @ pose.rotation.matrix(), pose.inverse().translation)
    try:
        found = pose_errors(read_model(model), cameras)
    except MappingError:
        return "none"
    centres = np.array([camera.centre for camera in cameras.values()])
    extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    return f"{100 * np.median(found.position) / extent:.3f} %, {np.median(found.rotation):.3f}°"


def row(title: str, task: Task, run: SfmResult, error: str) -> str:
    """A line of the table."""
    best = run.models[0] if run.models else None
    counts = (
        f"{best.registered}/{run.images} | {best.points} | {best.images_per_point:.2f}"
        if best
        else f"0/{run.images} | |"
    )
    verified = f"{run.database.verified}/{run.pairs}" if run.database else ""
    turns = len(run.orientation.rotated)
    share = run.seconds.get("orient", 0.0) / max(run.seconds.get("extract", 0.0), 1e-9)
    cost = "kept" if "extract" in run.kept else f"{100 * share:.1f} %"
    return f"| {title} | `{task.feature}` {task.orientation} | {counts} | {verified} | {error} | {turns} | {cost} |"


def compare(images: Path, args: argparse.Namespace) -> None:
    """Print the lines of a folder of photographs."""
    name = images.parent.name if images.name == "images" else images.name
    for how in args.turned:
        folders = {kind: args.output / name / f"photos-{kind}" for kind in (BESIDE[how], how)}
        angles = {kind: copies(images, folder, kind, args.max_size, args.seed) for kind, folder in folders.items()}
        for feature in args.features:
            for kind, folder in folders.items():
                for orientation in args.orientation:
                    output = args.output / name / f"{feature}-{kind}-{orientation}"
                    task = Task(folder, output, feature, orientation, args.max_keypoints)
                    run = task.run()
                    truth = args.output / name / f"{feature}-{BESIDE[how]}-{args.orientation[0]}" / "sparse/0"
                    known = kind == how and run.models and truth.is_dir()
                    error = errors(Path(run.models[0].path), truth, angles[kind]) if known else ""
                    print(row(f"{name}, {kind}", task, run, error), file=sys.stderr, flush=True)


def votes(images: Path, args: argparse.Namespace) -> None:
    """Print what is turned of a folder of photographs, upright and turned by us."""
    name = images.parent.name if images.name == "images" else images.name
    model = confs.extractors[confs.DEFAULT_FEATURE]["model"]
    for how in dict.fromkeys(["upright", *args.turned]):
        folder = args.output / name / f"photos-{how}"
        angles = copies(images, folder, how, args.max_size, args.seed)
        path = args.output / name / f"votes-{how}.h5"
        path.unlink(missing_ok=True)
        before = time.process_time()
        found = choose_views("auto", model, folder, list(angles), path, progress=False)
        seconds = time.process_time() - before
        lies = {copy: angle + found.rotated.get(copy, 0) for copy, angle in angles.items()}
        alike = max(sum(abs(wrapped(a - common)) <= ALIKE for a in lies.values()) for common in range(0, 360, 5))
        cells = (f"{name}, {how}", len(angles), found.looked, found.tests, len(found.rotated), alike, f"{seconds:.1f}")
        print(f"| {' | '.join(map(str, cells))} |", file=sys.stderr, flush=True)


def main() -> None:
    """Print a table in Markdown on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=Path, nargs="+", required=True, metavar="DIR", help="one folder a scene")
    add("--turned", nargs="+", choices=list(BESIDE), default=list(BESIDE))
    add("--features", nargs="+", choices=list(confs.extractors), default=["posfeat-small", "sift"])
    add("--orientation", nargs="+", choices=MODES, default=["auto"])
    add("--max-size", type=int, default=1024, metavar="PX", help="longest side of the copies (default: %(default)s)")
    add("--max-keypoints", type=int, default=8192, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=1, help="of the turns (default: %(default)s)")
    add("--votes", action="store_true", help="no reconstructions: only what is turned")
    add("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    what = RECONSTRUCTED if not args.votes else VOTED
    print(f"| {' | '.join(what)} |\n|{'---|' * len(what)}", file=sys.stderr)
    try:
        for images in args.images:
            (votes if args.votes else compare)(images, args)
    except PosfeatError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
