"""Matching accuracy under known homographies, features side by side: HPatches and Oxford-affine folders."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc import __version__, confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.evaluation.homography import GROUPS, HOMOGRAPHY_ERRORS, THRESHOLDS, MmaResult, evaluate_mma, mma_score
from posfeat_hloc.evaluation.options import HPatchesOptions
from posfeat_hloc.evaluation.pairs import feature_file
from posfeat_hloc.evaluation.published import MMA_SOURCE, published_mma
from posfeat_hloc.evaluation.sequences import SequenceSet, find_sequences
from posfeat_hloc.evaluation.tables import Column, Table, Value, plot_mma
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.runtime.options import recorded
from posfeat_hloc.runtime.output import write_atomically
from posfeat_hloc.runtime.reporter import QUIET, Reporter, counted, reporting

HERE = "measured here"


@dataclass(frozen=True)
class HPatchesResult:
    """What was measured.

    Attributes:
        found: sequences, and what is not among them.
        results: feature -> accuracy.
        table: a row for each feature, ``mma.csv`` and ``mma.tex``.
        sequences: a row for each sequence.
        undrawn: why there is no ``mma.png``; empty where there is one.
    """

    found: SequenceSet
    results: dict[str, MmaResult]
    table: Table
    sequences: Table
    undrawn: str


def evaluate_hpatches(
    dataset: Path, output: Path, options: HPatchesOptions | None = None, reporter: Reporter = QUIET
) -> HPatchesResult:
    """Measure matching accuracy under known homographies, and write tables and plot.

    Protocol of D2-Net, D2D and PoSFeat: image 1 against 2..6, mutual nearest neighbours, error of the forward
    homography, accuracy averaged over pairs; 108 of HPatches' 116 sequences. Homographies estimated from the matches
    are judged, too: :func:`~posfeat_hloc.evaluation.homography.homography_error` at the corners of the first image, or
    at points that a person marked (Homogr).

    Args:
        dataset: folder of sequences: HPatches, Oxford affine, or both; EVD; Homogr; folders of fixed cameras.
        output: folder of results; what was measured there is not measured again.
        options: see :class:`HPatchesOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options = options or HPatchesOptions()
    found = find_sequences(dataset, options.fixed_camera)
    choices = choose_features(options.features, options.weights)
    published = _published(options.published, found)
    output.mkdir(parents=True, exist_ok=True)
    with reporting(reporter):
        results = measure_features(dataset, choices, found, output, options, reporter.progress)
    table, each = summary_table(results, published), sequence_table(results)
    table.write(output, "mma")
    each.write(output, "sequences")
    (output / "curves.csv").write_text(curve_table(results, published).as_csv(), encoding="utf-8")
    title = f"{dataset.resolve().name}, {len(found.sequences)} sequences"
    undrawn = plot_mma(output / "mma.png", results, published, title)
    record = {"dataset": str(dataset), "output": str(output)} | recorded(options)
    write_atomically(output / "summary.json", json.dumps(_summary(record, found), indent=2, ensure_ascii=False) + "\n")
    return HPatchesResult(found, results, table, each, undrawn)


def measure_features(
    dataset: Path,
    choices: Sequence[FeatureChoice],
    found: SequenceSet,
    output: Path,
    options: HPatchesOptions,
    progress: bool,
) -> dict[str, MmaResult]:
    """Label -> accuracy of each feature, extracted and matched where an earlier run did not do it.

    Args:
        dataset: folder of the sequences.
        choices: features.
        found: sequences; those with an unreadable image are taken out.
        output: folder for ``features/`` and ``measured/``.
        options: which keypoints are matched, how and where.
        progress: whether bars are drawn.
    """
    extracted = extract_sequences(dataset, choices, found, output, options.device, progress)
    return {
        choice.label: evaluate_mma(
            extracted[choice.label],
            found.sequences,
            confs.matchers[options.matcher]["model"],
            output / "measured" / f"{choice.stem}.jsonl",
            options.top_k,
            options.device,
            choice.label,
            progress=progress,
        )
        for choice in choices
    }


def extract_sequences(
    dataset: Path,
    choices: Sequence[FeatureChoice],
    found: SequenceSet,
    output: Path,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Path]:
    """Label -> feature file; sequences with an unreadable image are taken out of ``found``."""
    names = [name for sequence in found.sequences for name in sequence.images]
    files: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for choice in choices:
        files[choice.label], reasons = feature_file(choice, dataset, names, output / "features", device, progress)
        skipped |= reasons
    _drop_unreadable(found, skipped)
    return files


def _published(wanted: Sequence[str] | None, found: SequenceSet) -> dict[str, MmaResult]:
    """Published curves are of HPatches, so they are shown beside HPatches only."""
    known = published_mma()
    if unknown := [name for name in wanted or () if name not in known]:
        raise ConfigurationError(Option("published"), f": {unknown[0]!r} has no curve; there are {', '.join(known)}")
    if not found.is_hpatches:
        return {}
    return known if wanted is None else {name: known[name] for name in wanted}


def _drop_unreadable(found: SequenceSet, skipped: Mapping[str, str]) -> None:
    """Take sequences with an unreadable image out, for every feature, so that all rows are of the same pairs."""
    for sequence in found.sequences:
        if reasons := [skipped[name] for name in sequence.images if name in skipped]:
            found.unusable[sequence.name] = reasons[0]
    found.sequences = [sequence for sequence in found.sequences if sequence.name not in found.unusable]
    if not found.sequences:
        raise ConfigurationError(f"no sequence has readable images only ({counted(found.unusable)})")


def summary_table(results: Mapping[str, MmaResult], published: Mapping[str, MmaResult]) -> Table:
    """A row for each feature: MMAscore by group, MMA at 1, 3, 5 and 10 px, keypoints, mutual matches, their ratio,
    and the share of pairs whose estimated homography is right within 1, 3 and 5 px."""
    at = (1, 3, 5, 10)
    table = Table(
        [
            Column("feature"), Column("numbers"),
            Column("MMAscore", ".3f"), Column("illumination", ".3f"), Column("viewpoint", ".3f"),
            *(Column(f"MMA@{t}", ".3f") for t in at),
            Column("keypoints", ".0f"), Column("matches", ".0f"), Column("ratio", ".3f"),
            *(Column(f"H@{t}", ".3f") for t in HOMOGRAPHY_ERRORS),
        ]
    )  # fmt: skip
    for source, rows in ((HERE, results), (MMA_SOURCE, published)):
        for name, result in rows.items():
            scores = [result.score(group) for group in GROUPS]
            accuracy = [float(result.curves["overall"][t - 1]) for t in at]
            found = result.homography or (None,) * len(HOMOGRAPHY_ERRORS)
            table.rows.append(
                [name, source, *scores, *accuracy, result.keypoints, result.matches, result.ratio, *found]
            )
    return table


def sequence_table(results: Mapping[str, MmaResult]) -> Table:
    """MMAscore of each sequence (rows) and feature (columns)."""
    names = list(next(iter(results.values())).sequences)
    rows: list[Sequence[Value]] = [[n, *(mma_score(result.sequences[n]) for result in results.values())] for n in names]
    return Table([Column("sequence"), *(Column(label, ".3f") for label in results)], rows)


def curve_table(results: Mapping[str, MmaResult], published: Mapping[str, MmaResult]) -> Table:
    """MMA at each threshold, a row for each feature and threshold."""
    table = Table([Column(t) for t in ("feature", "numbers", "threshold_px", *GROUPS, "keypoints", "matches")])
    for source, rows in ((HERE, results), (MMA_SOURCE, published)):
        for name, result in rows.items():
            for i, threshold in enumerate(THRESHOLDS.tolist()):
                curves = [float(result.curves[g][i]) if g in result.curves else None for g in GROUPS]
                table.rows.append([name, source, threshold, *curves, result.keypoints, result.matches])
    return table


def _summary(record: dict[str, Any], found: SequenceSet) -> dict[str, Any]:
    """What was measured and how, for ``summary.json``; the numbers are in the tables."""
    return {
        "sequences": [sequence.name for sequence in found.sequences],
        "unusable": found.unusable,
        "absent": found.absent,
        "command": record,
        "versions": {"posfeat_hloc": __version__, "python": platform.python_version()},
    }
