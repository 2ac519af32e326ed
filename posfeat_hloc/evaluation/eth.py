"""Structure from motion statistics, features side by side: ETH local feature benchmark and Strecha folders."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from posfeat_hloc.errors import ConfigurationError, MappingError, Option, PosfeatError
from posfeat_hloc.evaluation.options import EthOptions
from posfeat_hloc.evaluation.poses import pose_errors, read_strecha_cameras
from posfeat_hloc.evaluation.published import published_models
from posfeat_hloc.evaluation.tables import Column, Table, Value
from posfeat_hloc.export import readable_by_colmap
from posfeat_hloc.extractors.choice import choose_features, read_weights
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.runtime.reporter import QUIET, Reporter
from posfeat_hloc.sfm.dense_stereo import NO_CUDA, dense_points, has_stereo
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.options import SfmOptions
from posfeat_hloc.sfm.pipeline import reconstruct
from posfeat_hloc.sfm.summary import SfmResult

COLUMNS = [
    Column("data set"), Column("feature"), Column("numbers"), Column("images"), Column("registered"),
    Column("sparse points"), Column("dense points"), Column("obs./image", ".0f"), Column("track length", ".2f"),
    Column("reproj. px", ".2f"), Column("rotation deg", ".3f"), Column("position", ".4f"),
]  # fmt: skip


@dataclass
class EthResult:
    """What was measured.

    Attributes:
        table: a row for each set and feature, and published ones; ``eth.csv`` and ``eth.tex`` in the output folder.
        notes: what failed, and what the numbers mean.
        complete: whether every reconstruction has a model.
    """

    table: Table = field(default_factory=lambda: Table(COLUMNS))
    notes: list[str] = field(default_factory=list)
    complete: bool = True


def evaluate_eth(
    dataset: Path,
    output: Path,
    options: EthOptions | None = None,
    sfm: SfmOptions | None = None,
    reporter: Reporter = QUIET,
) -> EthResult:
    """Reconstruct every set with every feature, and write the table.

    Args:
        dataset: a set (``images/`` in it), or a folder of sets.
        output: folder of results; each reconstruction is in ``<set>/<feature>/``, and is not made again.
        options: see :class:`EthOptions`.
        sfm: of every reconstruction; its feature and weights are not looked at.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix, except where it stops one reconstruction only.
    """
    options, sfm = options or EthOptions(), sfm or SfmOptions()
    sets, unusable = find_reconstruction_sets(dataset)
    choices = choose_features(options.features, options.weights)
    if files := [choice.label for choice in choices if choice.conf is None]:
        raise ConfigurationError(
            Option("features", files[0]), ": a reconstruction extracts its features; name a feature"
        )
    weights = read_weights(options.weights, [feature.partition(":")[0] for feature in options.features])
    result = EthResult(notes=[f"not used: {reason}" for reason in unusable.values()])
    for images in sets:
        result.notes += _database_notes(images)
        pairs = sfm.pairs or ("exhaustive" if len(images.names) <= options.exhaustive_up_to else "retrieval")
        for choice in choices:
            feature, folder = choice.label, output / images.name / choice.stem
            own = replace(sfm, feature=feature, weights=weights.get(feature.partition(":")[0]), pairs=pairs)
            try:
                made = reconstruct(images.images, folder, own, reporter)
                result.table.rows.append(_row(options.dense, images, feature, made, folder, result.notes))
                result.complete &= bool(made.models)
            except PosfeatError as error:
                result.notes.append(f"failed: {images.name} with {feature}: {error}")
                result.complete = False
        result.table.rows += _published_rows(images.name)
    output.mkdir(parents=True, exist_ok=True)
    result.table.write(output, "eth")
    result.notes += _explanations(options.dense, result.table)
    return result


def _row(
    dense_too: bool, images: ReconstructionSet, feature: str, run: SfmResult, folder: Path, notes: list[str]
) -> list[Value]:
    row: list[Value] = [images.name, feature, "measured here", len(images.names)]
    if not run.models:
        return [*row, 0, *[None] * (len(COLUMNS) - 5)]
    best = run.models[0]
    dense = None
    if dense_too and has_stereo():
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


def _explanations(dense_too: bool, table: Table) -> list[str]:
    lines = []
    if dense_too and not has_stereo():
        lines.append(f"dense points were not computed: {NO_CUDA}")
    if any(row[-1] is not None for row in table.rows):
        lines.append("rotation, position: medians after alignment with the true cameras, in their unit")
    if any(row[2] != "measured here" for row in table.rows):
        lines.append("published rows are of images at full size")
    return lines


LAYOUT = (
    "<set>/images/ with photographs, and maybe <set>/database.db (ETH local feature benchmark) or "
    "<set>/cameras/<image>.camera (Strecha)"
)


@dataclass(frozen=True)
class ReconstructionSet:
    """One set of photographs.

    Attributes:
        name: of the folder.
        images: folder of the photographs.
        names: of the photographs, relative to ``images``.
        cameras: folder of true cameras, or None.
        missing: images that the benchmark's database lists and that are not in the folder.
        unlisted: number of images in the folder that its database does not list.
    """

    name: str
    images: Path
    names: list[str]
    cameras: Path | None
    missing: list[str]
    unlisted: int


def find_reconstruction_sets(folder: Path) -> tuple[list[ReconstructionSet], dict[str, str]]:
    """The set in a folder, or those in its subfolders.

    Returns:
        the sets, sorted by name, and subfolder -> why it is no set.

    Raises:
        ConfigurationError: no such folder, or no set in it; the message shows the layout that is expected and what was
            found.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; expected {LAYOUT}")
    if (folder / "images").is_dir():
        return [_read(folder)], {}
    found, unusable = [], {}
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if not entry.is_dir():
            continue
        try:
            if not (entry / "images").is_dir():
                raise ConfigurationError(f"{entry}: has no folder images")
            found.append(_read(entry))
        except ConfigurationError as error:
            unusable[entry.name] = str(error)
    if not found:
        names = ", ".join(entry.name for entry in entries[:5]) or "nothing"
        more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
        raise ConfigurationError(f"{folder}: holds no set to reconstruct; expected {LAYOUT}; found {names}{more}")
    return found, unusable


def _read(folder: Path) -> ReconstructionSet:
    names = list_images(folder / "images")
    database, cameras = folder / "database.db", folder / "cameras"
    listed = _listed_images(database) if database.is_file() else names
    return ReconstructionSet(
        folder.resolve().name,
        folder / "images",
        names,
        cameras if any(cameras.glob("*.camera")) else None,
        sorted(set(listed) - set(names)),
        len(set(names) - set(listed)),
    )


def _listed_images(database: Path) -> list[str]:
    """Image names in the benchmark's database, which is only read: COLMAP would bring it to its newest form."""
    uri = f"file:{quote(str(database.resolve()))}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True)
        try:
            return [name for (name,) in connection.execute("SELECT name FROM images")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigurationError(f"{database}: is not a COLMAP database ({error}); get the file again") from error
