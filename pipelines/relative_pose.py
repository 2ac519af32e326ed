"""Relative pose from matches, features side by side: AUC at 5, 10 and 20 degrees on a list of posed image pairs.

    python -m pipelines.relative_pose --pairs yfcc_test_pairs_with_gt.txt --images yfcc --features d2d-hardnet sift

Lists are written as SuperGlue's (text) or MegaDepth-1500's (scene_info .npz, several at once). The error of a pair is
the larger of the angles of rotation and of the direction of translation. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipelines.argument_types import add_feature_options
from posfeat_hloc import confs
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.feature_files import feature_file
from posfeat_hloc.evaluation.pairs import Measured, measure_pairs
from posfeat_hloc.evaluation.posed_lists import PosedImagePair, read_posed_pairs
from posfeat_hloc.evaluation.relative_pose import (
    AUC_DEGREES,
    ESTIMATORS,
    EstimatorOptions,
    estimate_pose,
    pose_auc,
    pose_error,
    precision,
)
from posfeat_hloc.evaluation.tables import Column, Table
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.features import Features, Matches


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 when there is a table."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: relative_pose(args), args.output, "run the same command again to go on from here")


def relative_pose(args: argparse.Namespace) -> bool:
    """Measure all features, write the tables, print them.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    options = EstimatorOptions(args.estimator, args.threshold, seed=args.seed)
    pairs = [pair for path in args.pairs for pair in read_posed_pairs(path)]
    choices = choose_features(args.features, args.weights)
    output = args.output or Path("outputs") / f"{args.pairs[0].stem}-pose"
    output.mkdir(parents=True, exist_ok=True)

    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    progress = not args.quiet
    extracted = [feature_file(c, args.images, names, output / "features", args.device, progress) for c in choices]
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
        matcher = args.matcher or confs.default_matchers.get(choice.label.split(":")[0], "NN-mutual")
        measured = _measure(args, choice, file, usable, matcher, options, output)
        table.rows.append(_row(choice.label, matcher, options, measured))
        for pair, m in zip(usable, measured, strict=True):
            each.rows.append([choice.label, pair.name0, pair.name1, m["rotation"], m["translation"], m["matches"]])
    table.write(output, "pose")
    (output / "pairs.csv").write_text(each.as_csv(), encoding="utf-8")
    print("\n".join(_report(args, options, table, usable, pairs, skipped, output)))
    return True


def _measure(
    args: argparse.Namespace,
    choice: FeatureChoice,
    file: Path,
    pairs: Sequence[PosedImagePair],
    matcher: str,
    options: EstimatorOptions,
    output: Path,
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

    settings = [repr([asdict(options), *(a.tolist() for a in _truth(pair))]) for pair in pairs]
    record = output / "measured" / f"{choice.stem}.jsonl"
    return measure_pairs(
        file, [(p.name0, p.name1) for p in pairs], measure, settings, confs.matchers[matcher]["model"], record,
        args.top_k, args.device, choice.label, progress=not args.quiet,
    )  # fmt: skip


def _truth(pair: PosedImagePair) -> list[np.ndarray]:
    return [pair.intrinsics0, pair.intrinsics1, pair.rotation, pair.translation]


def _row(label: str, matcher: str, options: EstimatorOptions, measured: Sequence[Measured]) -> list[str | int | float]:
    errors = [max(m["rotation"], m["translation"]) for m in measured]
    means = [float(np.mean([m[key] for m in measured])) for key in ("precision", "matches", "keypoints")]
    return [label, matcher, options.name, *pose_auc(errors), *means, int(np.isinf(errors).sum())]


def _report(
    args: argparse.Namespace,
    options: EstimatorOptions,
    table: Table,
    usable: Sequence[PosedImagePair],
    pairs: Sequence[PosedImagePair],
    skipped: Mapping[str, str],
    output: Path,
) -> list[str]:
    """What the terminal says."""
    estimator = f"{ESTIMATORS[options.name]}, {options.threshold:g} px, seed {options.seed}"
    lines = ["", f"{len(usable)} of {len(pairs)} pairs, pose by {estimator}", ""]
    lines += [table.as_latex() if args.latex else table.as_text(), ""]
    lines += [f"not used: {why}" for why in skipped.values()]
    if turned := sum(any(pair.turns) for pair in usable):
        lines.append(
            f"{turned} pairs are marked as turned in the list: pictures are turned as their EXIF tag says, not as the "
            "list says; intrinsics and poses refer to the files as stored in either case"
        )
    lines.append(f"files: {output}/ pose.csv pose.tex pairs.csv")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.relative_pose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pairs", type=Path, nargs="+", required=True, metavar="FILE", help="lists with intrinsics and poses")
    add("--images", type=Path, required=True, metavar="DIR", help="folder that the names in the lists are relative to")
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits each feature")
    add("--estimator", choices=list(ESTIMATORS), default="opencv-ransac", help="default: %(default)s")
    add("--threshold", type=float, default=1.0, metavar="PX",
        help="of an inlier, in pixels of the images as stored (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of the estimator (default: %(default)s)")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the first list>-pose)")
    add("--latex", action="store_true", help="print the table as LaTeX (it is written to pose.tex in any case)")
    add_feature_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
