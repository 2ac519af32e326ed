"""D2D's ablations: its two saliencies (Table 3), the window of the second (figure 7), other detectors (Table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.evaluation.homography import THRESHOLD, MmaResult, repeatability
from posfeat_hloc.evaluation.hpatches import extract_sequences, measure_features
from posfeat_hloc.evaluation.options import RADII, HPatchesOptions
from posfeat_hloc.evaluation.pairs import strongest_features
from posfeat_hloc.evaluation.published import published_cell
from posfeat_hloc.evaluation.sequences import ImageSequence, SequenceSet, find_sequences
from posfeat_hloc.evaluation.tables import Column, Table, Value, plot_sweep
from posfeat_hloc.extractors.choice import FeatureChoice, choose_features
from posfeat_hloc.stores import FeatureStore


@dataclass(frozen=True)
class Ablation:
    """What was measured.

    Attributes:
        table: written as CSV and LaTeX.
        files: their names, for the reader.
        notes: what the numbers mean.
    """

    table: Table
    files: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """On what, and how.

    Attributes:
        dataset: folder of sequences.
        output: folder of results.
        options: features, matcher and keypoints.
        progress: whether bars are drawn.
    """

    dataset: Path
    output: Path
    options: HPatchesOptions = field(default_factory=HPatchesOptions)
    progress: bool = False

    def measure(self, choices: Sequence[FeatureChoice], found: SequenceSet) -> dict[str, MmaResult]:
        """See :func:`posfeat_hloc.evaluation.hpatches.measure_features`."""
        return measure_features(self.dataset, choices, found, self.output, self.options, self.progress)

    def finish(self, table: Table, stem: str, notes: Sequence[str], more: str = "") -> Ablation:
        """Write the table."""
        self.output.mkdir(parents=True, exist_ok=True)
        table.write(self.output, stem)
        return Ablation(table, f"{stem}.csv {stem}.tex{more}", list(notes))


PAPERS_RADIUS = 5
"""The default of all extractors; named without it, its features are those of Table 3, and extracted once."""

_STRIDES = {"hardnet": 4, "sosnet": 4, "superpoint": 8, "d2net": 4}
_PAPER = {"hardnet": "HardNet", "sosnet": "SOSNet", "superpoint": "SuperPoint", "d2net": "D2-Net"}
_MEASURES = [
    Column("mean MMA %", ".2f"), Column("MMAscore", ".3f"), Column("MMA@3", ".3f"), Column("keypoints", ".0f"),
    Column("matches", ".0f"), Column("ratio", ".3f"),
]  # fmt: skip


def compare_terms(args: Comparison) -> Ablation:
    """S_AS, S_RS and both, each as the score that chooses keypoints (D2D Table 3)."""
    texts = {
        (feature, terms): feature if terms == "both" else f"{feature}:terms={terms}"
        for feature in args.options.features
        for terms in ("absolute", "relative", "both")
    }
    choices, results = _measure(args, list(texts.values()))
    table = Table([Column("feature"), Column("saliency"), *_MEASURES, Column("D2D Table 3 (HPatches)", ".2f")])
    names = {"absolute": "S_AS alone", "relative": "S_RS alone", "both": "both"}
    for (feature, terms), text in texts.items():
        published = published_cell("D2D Table 3", terms, _PAPER[network_of(choices[text])])
        table.rows.append([feature, names[terms], *_values(results[text]), published])
    return args.finish(table, "terms", [])


def sweep_radius(args: Comparison, radii: Sequence[int] = RADII) -> Ablation:
    """Several r_RS with S_RS alone as the score, as in D2D figure 7."""
    texts = {
        (feature, radius): f"{feature}:terms=relative" + (f":radius={radius}" if radius != PAPERS_RADIUS else "")
        for feature in args.options.features
        for radius in radii
    }
    choices, results = _measure(args, list(texts.values()))
    table = Table([Column("feature"), Column("r_RS", "d"), Column("pixels", "d"), *_MEASURES])
    curves: dict[str, list[float]] = {feature: [] for feature in args.options.features}
    for (feature, radius), text in texts.items():
        stride = _STRIDES[network_of(choices[text])]
        table.rows.append([feature, radius, stride * radius, *_values(results[text])])
        curves[feature].append(results[text].mean)
    title = f"S_RS alone, {args.dataset.resolve().name}"
    undrawn = plot_sweep(args.output / "radius.png", radii, curves, "r_RS [cells]", "mean MMA, 1 to 10 px [%]", title)
    notes = ["D2D prints figure 7 as curves only; its best r_RS for HardNet and SOSNet is 5"]
    return args.finish(table, "radius", [*notes, f"no plot was drawn: {undrawn}" if undrawn else "plot: radius.png"])


def cross_repeatability(args: Comparison, threshold: float = THRESHOLD) -> Ablation:
    """Keypoints of one detector looked for among those of another (D2D Table 5).

    The paper says that numbers are relative to the diagonal, not to which of its two: here the source's own detector
    on both images. With all keypoints that is close to the table on other images, too.
    """
    found = find_sequences(args.dataset)
    choices = choose_features(args.options.features, args.options.weights)
    files = extract_sequences(args.dataset, choices, found, args.output, args.options.device, args.progress)
    shares = {}
    for source in choices:
        for destination in choices:
            with FeatureStore(files[source.label]) as store0, FeatureStore(files[destination.label]) as store1:
                values = [_shares(s, store0, store1, args.options.top_k, threshold) for s in found.sequences]
            shares[source.label, destination.label] = float(np.mean(np.concatenate(values)))
    table = Table(
        [Column("source"), Column("destination"), Column("repeatability", ".3f"), Column("relative", ".3f"),
         Column("D2D Table 5 (HPatches)", ".3f")]
    )  # fmt: skip
    paper = {choice.label: _PAPER.get(network_of(choice), "") if is_d2d(choice) else "" for choice in choices}
    for (source_label, other), share in shares.items():
        own = shares[source_label, source_label]
        published = published_cell("D2D Table 5", paper[other], paper[source_label])
        table.rows.append([source_label, other, share, share / own if own else None, published])
    keypoints = f"the {args.options.top_k} strongest" if args.options.top_k else "all"
    notes = [
        f"repeatability: mutual nearest points at most {threshold:g} px apart, over the smaller number in the "
        f"common part, of {keypoints} keypoints of an image; relative: to the source's own detector on both"
    ]
    return args.finish(table, "repeatability", notes)


def network_of(choice: FeatureChoice) -> str:
    """The network that a conf's descriptors come from; empty for a feature file."""
    model = choice.conf["model"] if choice.conf else {}
    return str(model.get("network", model.get("name", "")))


def is_d2d(choice: FeatureChoice) -> bool:
    """Whether S_D2D is used in the selection of keypoints."""
    model = choice.conf["model"] if choice.conf else {}
    return model.get("name") == "d2d" or model.get("d2d", "off") not in ("off", False)


def _measure(args: Comparison, texts: Sequence[str]) -> tuple[dict[str, FeatureChoice], Mapping[str, MmaResult]]:
    choices = choose_features(texts, args.options.weights)
    for choice in choices:
        if not is_d2d(choice):
            raise ConfigurationError(Option("features"), f": {choice.label.partition(':')[0]} has no S_D2D; take d2d-*")
    found = find_sequences(args.dataset)
    results = args.measure(choices, found)
    return {choice.label: choice for choice in choices}, results


def _values(result: MmaResult) -> list[Value]:
    at_3 = float(result.curves["overall"][2])
    return [result.mean, result.score("overall"), at_3, result.keypoints, result.matches, result.ratio]


def _shares(
    sequence: ImageSequence, store0: FeatureStore, store1: FeatureStore, top_k: int | None, threshold: float
) -> list[float]:
    """Repeatability of each pair of a sequence."""
    first = sequence.images[0]
    keypoints0 = strongest_features(store0.read(first), top_k).keypoints
    return [
        repeatability(keypoints0, strongest_features(store1.read(other), top_k).keypoints, homography,
                      store0.image_size(first), store1.image_size(other), threshold)
        for other, homography in zip(sequence.images[1:], sequence.homographies, strict=True)
    ]  # fmt: skip
