"""Relative poses of calibrated image pairs from matches: errors, AUC, features side by side on lists of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.evaluation.options import RelativePoseOptions
from posfeat_hloc.evaluation.pairs import Measured, feature_file, measure_pairs
from posfeat_hloc.evaluation.posed_lists import PosedImagePair, read_posed_pairs
from posfeat_hloc.evaluation.tables import Column, Table
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.geometry.rotations import rotation_angle
from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting

AUC_DEGREES = (5, 10, 20)
PRECISION_THRESHOLD = 5e-4
"""Symmetric squared epipolar distance in normalised coordinates below which a match is right (SuperGlue's)."""

Pose = tuple[NDArray[np.float64], NDArray[np.float64]]


def estimate_pose(
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
    intrinsics0: NDArray[np.float64],
    intrinsics1: NDArray[np.float64],
    options: RelativePoseOptions,
) -> Pose | None:
    """Rotation and direction of translation from camera 0 to camera 1; None when no pose fits.

    Args:
        points0, points1: ``(M, 2)`` matched keypoints in pixels.
        intrinsics0, intrinsics1: 3x3.
    """
    if len(points0) < 5:
        return None
    if options.estimator in ("pycolmap", "poselib"):
        estimate = _estimate_with_colmap if options.estimator == "pycolmap" else _estimate_with_poselib
        xy = [np.ascontiguousarray(points, np.float64) for points in (points0, points1)]
        return estimate(xy, [_pinhole(k) for k in (intrinsics0, intrinsics1)], options)
    rays0, rays1 = _normalized(points0, intrinsics0), _normalized(points1, intrinsics1)
    focal = np.mean([intrinsics0[0, 0], intrinsics0[1, 1], intrinsics1[0, 0], intrinsics1[1, 1]])
    method = cv2.RANSAC if options.estimator == "opencv-ransac" else cv2.USAC_MAGSAC
    cv2.setRNGSeed(options.seed)
    try:
        essential, mask = cv2.findEssentialMat(
            rays0, rays1, np.eye(3), method=method, prob=options.confidence, threshold=options.threshold / focal
        )
    except cv2.error:  # degenerate points
        return None
    if essential is None:
        return None
    best, found = 0, None
    for candidate in essential.reshape(-1, 3, 3):  # several where RANSAC could not tell
        count, rotation, translation, _ = cv2.recoverPose(candidate, rays0, rays1, np.eye(3), 1e9, mask=mask.copy())
        if count > best:
            best, found = count, (np.asarray(rotation, np.float64), np.asarray(translation[:, 0], np.float64))
    return found


def _estimate_with_colmap(
    xy: Sequence[NDArray[np.float64]], pinholes: Sequence[dict[str, Any]], options: RelativePoseOptions
) -> Pose | None:
    cameras = [pycolmap.Camera(**pinhole) for pinhole in pinholes]
    ransac = pycolmap.RANSACOptions()
    ransac.max_error = options.threshold
    ransac.confidence = options.confidence
    ransac.random_seed = options.seed
    found = pycolmap.estimate_relative_pose(cameras[0], xy[0], cameras[1], xy[1], ransac)
    if found is None:
        return None
    pose = found["cam2_from_cam1"]
    return pose.rotation.matrix(), np.asarray(pose.translation, np.float64)


def _estimate_with_poselib(
    xy: Sequence[NDArray[np.float64]], pinholes: Sequence[dict[str, Any]], options: RelativePoseOptions
) -> Pose | None:
    try:
        import poselib
    except ImportError as error:
        raise ConfigurationError(
            Option("estimator", "poselib"), ' needs PoseLib: pip install "posfeat-hloc[pose]"'
        ) from error
    ransac = {"max_epipolar_error": options.threshold, "success_prob": options.confidence, "seed": options.seed}
    found, information = poselib.estimate_relative_pose(*xy, *pinholes, ransac, {})
    if information["num_inliers"] == 0:
        return None
    return np.asarray(found.R, np.float64), np.asarray(found.t, np.float64)


def _pinhole(intrinsics: NDArray[np.float64]) -> dict[str, Any]:
    """A camera as COLMAP and PoseLib describe it; its size is not used by the estimation."""
    width, height = (int(np.ceil(2 * v)) + 1 for v in intrinsics[:2, 2])
    params = [intrinsics[0, 0], intrinsics[1, 1], *intrinsics[:2, 2]]
    return {"model": "PINHOLE", "width": width, "height": height, "params": params}


def pose_error(found: Pose | None, truth: PosedImagePair) -> tuple[float, float]:
    """Degrees of the rotation, and between the directions of translation up to sign; infinite without a pose."""
    if found is None:
        return float("inf"), float("inf")
    rotation, translation = found
    return float(rotation_angle(rotation @ truth.rotation.T)), _direction_angle(translation, truth.translation)


def _direction_angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The essential matrix does not fix the sign: at most 90 degrees."""
    angle = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))
    return min(angle, 180 - angle)


def squared_epipolar_errors(
    points0: NDArray[np.floating], points1: NDArray[np.floating], pair: PosedImagePair
) -> NDArray[np.float64]:
    """``(M,)`` squared distances to the epipolar lines, summed over both images, in normalised coordinates."""
    planes = _normalized(points0, pair.intrinsics0), _normalized(points1, pair.intrinsics1)
    error0, error1 = epipolar_errors(essential_matrix(pair.rotation, pair.translation), *planes)
    return np.asarray(error0**2 + error1**2, np.float64)


def precision(points0: NDArray[np.floating], points1: NDArray[np.floating], pair: PosedImagePair) -> float:
    """Share of matches on their epipolar lines; 0 without matches (as SuperGlue)."""
    if len(points0) == 0:
        return 0.0
    return float((squared_epipolar_errors(points0, points1, pair) < PRECISION_THRESHOLD).mean())


def pose_auc(errors: Sequence[float], thresholds: Sequence[float] = AUC_DEGREES) -> list[float]:
    """Area under the curve of recall over error, up to each threshold and relative to it, as SuperGlue computes it.

    The curve runs straight from (0, 0) through (i-th smallest error, i / n) and level from the last one below the
    threshold on.

    Args:
        errors: of n pairs, the larger one of rotation and translation; infinite where no pose was found.
        thresholds: in the unit of the errors.

    Returns:
        a number in [0, 1] for each threshold.
    """
    ordered = np.sort(np.asarray(errors, np.float64))
    recall = np.arange(len(ordered) + 1) / max(1, len(ordered))
    ordered = np.r_[0.0, ordered]
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(ordered, threshold))  # at least 1: the curve starts at 0
        x, y = np.r_[ordered[:last], threshold], np.r_[recall[:last], recall[last - 1]]
        areas.append(float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / threshold))
    return areas


def _normalized(points: NDArray[np.floating], intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(M, 2)`` image-plane coordinates at distance 1; skew is taken into account."""
    rays = np.c_[points.astype(np.float64), np.ones(len(points))] @ np.linalg.inv(intrinsics).T
    return np.ascontiguousarray(rays[:, :2] / rays[:, 2:])


@dataclass(frozen=True)
class RelativePoseResult:
    """What was measured.

    Attributes:
        table: a row for each feature, ``pose.csv`` and ``pose.tex``; errors of all pairs are in ``pairs.csv``.
        pairs: of the lists.
        usable: those whose images can be read.
        skipped: image -> why it cannot be read.
    """

    table: Table
    pairs: list[PosedImagePair]
    usable: list[PosedImagePair]
    skipped: Mapping[str, str]


def evaluate_relative_pose(
    lists: Sequence[Path],
    images: Path,
    output: Path,
    options: RelativePoseOptions | None = None,
    reporter: Reporter = QUIET,
) -> RelativePoseResult:
    """Measure AUC at 5, 10 and 20 degrees, and write the tables.

    The error of a pair is the larger of the angles of rotation and of the direction of translation.

    Args:
        lists: as SuperGlue writes them (text), or MegaDepth-1500's (``.npz``).
        images: folder that their names are relative to.
        output: folder of results; what was measured there is not measured again.
        options: see :class:`RelativePoseOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options = options or RelativePoseOptions()
    pairs = [pair for path in lists for pair in read_posed_pairs(path)]
    choices = choose_features(options.features, options.weights)
    output.mkdir(parents=True, exist_ok=True)
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    with reporting(reporter):
        return _compare(choices, pairs, names, images, output, options, reporter.progress)


def _compare(
    choices: Sequence[FeatureChoice],
    pairs: list[PosedImagePair],
    names: Sequence[str],
    images: Path,
    output: Path,
    options: RelativePoseOptions,
    progress: bool,
) -> RelativePoseResult:
    extracted = [feature_file(c, images, names, output / "features", options.device, progress) for c in choices]
    skipped = {name: why for _, reasons in extracted for name, why in reasons.items()}
    usable = [pair for pair in pairs if pair.name0 not in skipped and pair.name1 not in skipped]
    if not usable:
        raise ConfigurationError(f"no pair has two readable images ({'; '.join(list(skipped.values())[:3])})")

    table = Table(
        [
            Column("feature"), Column("matcher"), Column("estimator"),
            *(Column(f"AUC@{degrees}", ".4f") for degrees in AUC_DEGREES),
            Column("precision", ".4f"), Column("matches", ".0f"), Column("keypoints", ".0f"), Column("no pose", "d"),
        ]
    )  # fmt: skip
    each = Table([Column(t) for t in ("feature", "name0", "name1", "rotation_deg", "translation_deg", "matches")])
    for choice, (file, _) in zip(choices, extracted, strict=True):
        matcher = options.matcher or confs.default_matchers.get(choice.label.split(":")[0], "NN-mutual")
        measured = _measure(choice, file, usable, matcher, options, output, progress)
        table.rows.append(_row(choice.label, matcher, options, measured))
        for pair, m in zip(usable, measured, strict=True):
            each.rows.append([choice.label, pair.name0, pair.name1, m["rotation"], m["translation"], m["matches"]])
    table.write(output, "pose")
    (output / "pairs.csv").write_text(each.as_csv(), encoding="utf-8")
    return RelativePoseResult(table, pairs, usable, skipped)


def _measure(
    choice: FeatureChoice,
    file: Path,
    pairs: Sequence[PosedImagePair],
    matcher: str,
    options: RelativePoseOptions,
    output: Path,
    progress: bool,
) -> list[Measured]:
    def measure(number: int, features0: Features, features1: Features, matches: Matches) -> Measured:
        pair, indices = pairs[number], matches.pairs()
        points0, points1 = features0.keypoints[indices[:, 0]], features1.keypoints[indices[:, 1]]
        found = estimate_pose(points0, points1, pair.intrinsics0, pair.intrinsics1, options)
        rotation, translation = pose_error(found, pair)
        return {
            "rotation": rotation,
            "translation": translation,
            "precision": precision(points0, points1, pair),
            "matches": len(indices),
            "keypoints": (len(features0) + len(features1)) / 2,
        }

    estimator = {"name": options.estimator} | {n: getattr(options, n) for n in ("threshold", "confidence", "seed")}
    truths = ((p.intrinsics0, p.intrinsics1, p.rotation, p.translation) for p in pairs)
    settings = [repr([estimator, *(a.tolist() for a in truth)]) for truth in truths]
    record = output / "measured" / f"{choice.stem}.jsonl"
    return measure_pairs(
        file, [(p.name0, p.name1) for p in pairs], measure, settings, confs.matchers[matcher]["model"], record,
        options.top_k, options.device, choice.label, progress=progress,
    )  # fmt: skip


def _row(
    label: str, matcher: str, options: RelativePoseOptions, measured: Sequence[Measured]
) -> list[str | int | float]:
    errors = [max(m["rotation"], m["translation"]) for m in measured]
    means = [float(np.mean([m[key] for m in measured])) for key in ("precision", "matches", "keypoints")]
    return [label, matcher, options.estimator, *pose_auc(errors), *means, int(np.isinf(errors).sum())]
