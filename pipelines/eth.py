"""Structure from motion statistics, features side by side: ETH local feature benchmark and Strecha folders.

    python -m pipelines.eth --dataset Fountain --features d2d-hardnet sift
    python -m pipelines.eth --dataset strecha --features d2d-hardnet --max-keypoints 20480 --camera single
    python -m pipelines.eth --dataset strecha --features d2d-hardnet d2d-hardnet:resize_max=3072

Each reconstruction is one run of pipelines.sfm; an option that is not listed here is one of pipelines.sfm and holds for
all of them. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines import sfm
from pipelines.argument_types import positive
from pipelines.feature_list import choose_features, read_weights
from pipelines.summary import Run
from pipelines.tables import Column, Table, Value
from posfeat_hloc import confs
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError, MappingError, PosfeatError
from posfeat_hloc.evaluation.poses import pose_errors, read_strecha_cameras
from posfeat_hloc.evaluation.published import published_models
from posfeat_hloc.evaluation.reconstruction_sets import ReconstructionSet, find_reconstruction_sets
from posfeat_hloc.export.readable import readable_by_colmap
from posfeat_hloc.sfm.dense_stereo import NO_CUDA, dense_points, has_stereo
from posfeat_hloc.sfm.reconstruction import read_model

COLUMNS = [
    Column("data set"), Column("feature"), Column("numbers"), Column("images"), Column("registered"),
    Column("sparse points"), Column("dense points"), Column("obs./image", ".0f"), Column("track length", ".2f"),
    Column("reproj. px", ".2f"), Column("rotation deg", ".3f"), Column("position", ".4f"),
]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 when every reconstruction has a model."""
    args, rest = _parser().parse_known_args(argv)
    return exit_code(lambda: eth(args, rest), args.output, "run the same command again to go on from here")


def eth(args: argparse.Namespace, rest: list[str]) -> bool:
    """Reconstruct every set with every feature, write and print the table.

    Args:
        args: options of this command.
        rest: options of pipelines.sfm.

    Raises:
        PosfeatError: for anything a user can mend, except where it stops one reconstruction only.
    """
    if own := [item for item in rest if item.partition("=")[0] in ("--images", "--feature")]:
        raise ConfigurationError(f"{own[0]}: use --dataset and --features")
    sets, unusable = find_reconstruction_sets(args.dataset)
    choices = choose_features(args.features, args.weights)
    if files := [choice.label for choice in choices if choice.conf is None]:
        raise ConfigurationError(f"--features {files[0]}: a reconstruction extracts its features; name a feature")
    weights = read_weights(args.weights, [feature.partition(":")[0] for feature in args.features])
    output = args.output or Path("outputs") / f"{args.dataset.resolve().name}-eth"
    table, failures = Table(COLUMNS), [f"not used: {reason}" for reason in unusable.values()]
    complete = True
    for images in sets:
        failures += _database_notes(images)
        for choice in choices:
            feature, folder = choice.label, output / images.name / choice.stem
            own_weights = weights.get(feature.partition(":")[0])
            try:
                run = sfm.sfm(sfm.arguments(_command(args, images, feature, own_weights, folder, rest)))
                table.rows.append(_row(args, images, feature, run, folder, failures))
                complete &= bool(run.models)
            except PosfeatError as error:
                failures.append(f"failed: {images.name} with {feature}: {error}")
                complete = False
        table.rows += _published_rows(images.name)
    output.mkdir(parents=True, exist_ok=True)
    table.write(output, "eth")
    print(f"\n{table.as_latex() if args.latex else table.as_text()}\n")
    lines = [*failures, *_explanations(args, table), f"files: {output}/ eth.csv eth.tex"]
    print("\n".join(lines))
    return complete


def _command(
    args: argparse.Namespace,
    images: ReconstructionSet,
    feature: str,
    weights: str | None,
    folder: Path,
    rest: list[str],
) -> list[str]:
    """The command line of pipelines.sfm; an option of the user's comes last and wins."""
    pairs = "exhaustive" if len(images.names) <= args.exhaustive_up_to else "retrieval"
    command = ["--images", str(images.images), "--output", str(folder), "--feature", feature, "--pairs", pairs]
    if weights is not None:
        command += ["--weights", weights]
    return [*command, *rest]


def _row(
    args: argparse.Namespace, images: ReconstructionSet, feature: str, run: Run, folder: Path, notes: list[str]
) -> list[Value]:
    row: list[Value] = [images.name, feature, "measured here", len(images.names)]
    if not run.models:
        return [*row, 0, *[None] * (len(COLUMNS) - 5)]
    best = run.models[0]
    dense = None
    if args.dense and has_stereo():
        model, photographs = readable_by_colmap(Path(best.path), images.images, folder / "readable")
        dense = dense_points(model, photographs, folder / "dense", (folder / "sparse.key").read_text())
    row += [best.registered, best.points, dense, best.observations / best.registered, best.track_length]
    row.append(best.reprojection_error)
    if images.cameras is None:
        return [*row, None, None]
    try:
        errors = pose_errors(read_model(Path(best.path)), read_strecha_cameras(images.cameras))
    except MappingError as error:
        notes.append(f"{images.name} with {feature}: no pose errors: {error}")
        return [*row, None, None]
    return [*row, float(np.median(errors.rotation)), float(np.median(errors.position))]


def _published_rows(dataset: str) -> list[Sequence[Value]]:
    return [
        [dataset, p.method, p.paper, p.images, p.registered, p.points, p.dense_points, None, p.track_length,
         p.reprojection_error, None, None]
        for p in published_models(dataset)
    ]  # fmt: skip


def _database_notes(images: ReconstructionSet) -> list[str]:
    notes = []
    if images.missing:
        names = ", ".join(images.missing[:5]) + (" ..." if len(images.missing) > 5 else "")
        notes.append(f"{images.name}: {len(images.missing)} images of its database.db are not in the folder: {names}")
    if images.unlisted:
        notes.append(f"{images.name}: {images.unlisted} images are not in its database.db, but are reconstructed, too")
    return notes


def _explanations(args: argparse.Namespace, table: Table) -> list[str]:
    lines = []
    if args.dense and not has_stereo():
        lines.append(f"dense points were not computed: {NO_CUDA}")
    if any(row[-1] is not None for row in table.rows):
        lines.append("rotation, position: medians after alignment with the true cameras, in their unit")
    if any(row[2] != "measured here" for row in table.rows):
        lines.append("published rows are of images at full size")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.eth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DIR", help="a set (DIR/images), or a folder of sets")
    add("--features", nargs="+", default=[confs.DEFAULT_FEATURE], metavar="FEATURE",
        help=f"NAME, one of {', '.join(confs.extractors)}; NAME:OPTION=VALUE[:OPTION=VALUE...] with other options of "
        f"the extractor or resize_max (default: {confs.DEFAULT_FEATURE})")  # fmt: skip
    add("--weights", nargs="+", default=[], metavar="FEATURE=FILE", help="other weights for a feature's network")
    add(
        "--exhaustive-up-to",
        type=positive,
        default=300,
        metavar="N",
        help="sets of at most N images are matched exhaustively, larger ones with --pairs retrieval (default: 300)",
    )
    add("--dense", action="store_true", help="also count dense points, where COLMAP's CUDA stereo is available")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of the data set>-eth)")
    add("--latex", action="store_true", help="print the table as LaTeX (it is written to eth.tex in any case)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
