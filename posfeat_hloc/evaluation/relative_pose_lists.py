"""Relative pose from matches, features side by side, on lists of posed image pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.feature_files import feature_file
from posfeat_hloc.evaluation.options import RelativePoseOptions
from posfeat_hloc.evaluation.pairs import Measured, measure_pairs
from posfeat_hloc.evaluation.posed_lists import PosedImagePair, read_posed_pairs
from posfeat_hloc.evaluation.relative_pose import (
    AUC_DEGREES,
    EstimatorOptions,
    estimate_pose,
    pose_auc,
    pose_error,
    precision,
)
from posfeat_hloc.evaluation.tables import Column, Table
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting


@dataclass(frozen=True)
class RelativePoseResult:
    """What was measured.

    Attributes:
        table: a row for each feature, ``pose.csv`` and ``pose.tex``; errors of all pairs are in ``pairs.csv``.
        pairs: of the lists.
        usable: those whose images can be read.
        skipped: image -> why it cannot be read.
        estimator: what found the poses.
    """

    table: Table
    pairs: list[PosedImagePair]
    usable: list[PosedImagePair]
    skipped: Mapping[str, str]
    estimator: EstimatorOptions


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
    estimator = EstimatorOptions(options.estimator, options.threshold, seed=options.seed)
    pairs = [pair for path in lists for pair in read_posed_pairs(path)]
    choices = choose_features(options.features, options.weights)
    output.mkdir(parents=True, exist_ok=True)
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    with reporting(reporter):
        return _compare(choices, pairs, names, images, output, options, estimator, reporter.progress)


def _compare(
    choices: Sequence[FeatureChoice],
    pairs: list[PosedImagePair],
    names: Sequence[str],
    images: Path,
    output: Path,
    options: RelativePoseOptions,
    estimator: EstimatorOptions,
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
        measured = _measure(choice, file, usable, matcher, options, estimator, output, progress)
        table.rows.append(_row(choice.label, matcher, estimator, measured))
        for pair, m in zip(usable, measured, strict=True):
            each.rows.append([choice.label, pair.name0, pair.name1, m["rotation"], m["translation"], m["matches"]])
    table.write(output, "pose")
    (output / "pairs.csv").write_text(each.as_csv(), encoding="utf-8")
    return RelativePoseResult(table, pairs, usable, skipped, estimator)


def _measure(
    choice: FeatureChoice,
    file: Path,
    pairs: Sequence[PosedImagePair],
    matcher: str,
    options: RelativePoseOptions,
    estimator: EstimatorOptions,
    output: Path,
    progress: bool,
) -> list[Measured]:
    def measure(number: int, features0: Features, features1: Features, matches: Matches) -> Measured:
        pair, indices = pairs[number], matches.pairs()
        points0, points1 = features0.keypoints[indices[:, 0]], features1.keypoints[indices[:, 1]]
        found = estimate_pose(points0, points1, pair.intrinsics0, pair.intrinsics1, estimator)
        rotation, translation = pose_error(found, pair)
        return {
            "rotation": rotation,
            "translation": translation,
            "precision": precision(points0, points1, pair),
            "matches": len(indices),
            "keypoints": (len(features0) + len(features1)) / 2,
        }

    settings = [repr([asdict(estimator), *(a.tolist() for a in _truth(pair))]) for pair in pairs]
    record = output / "measured" / f"{choice.stem}.jsonl"
    return measure_pairs(
        file, [(p.name0, p.name1) for p in pairs], measure, settings, confs.matchers[matcher]["model"], record,
        options.top_k, options.device, choice.label, progress=progress,
    )  # fmt: skip


def _truth(pair: PosedImagePair) -> list[np.ndarray]:
    return [pair.intrinsics0, pair.intrinsics1, pair.rotation, pair.translation]


def _row(label: str, matcher: str, options: EstimatorOptions, measured: Sequence[Measured]) -> list[str | int | float]:
    errors = [max(m["rotation"], m["translation"]) for m in measured]
    means = [float(np.mean([m[key] for m in measured])) for key in ("precision", "matches", "keypoints")]
    return [label, matcher, options.name, *pose_auc(errors), *means, int(np.isinf(errors).sum())]
