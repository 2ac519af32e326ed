"""PoSFeat's ablations: line samples and window (Table 4), Models 1 to 8 (figure 7), each trained first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posfeat_hloc import confs, weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.evaluation.d2d_ablations import Ablation, Comparison
from posfeat_hloc.evaluation.homography import GROUPS, MmaResult
from posfeat_hloc.evaluation.options import LINE_POINTS, WINDOWS
from posfeat_hloc.evaluation.published import published_cell
from posfeat_hloc.evaluation.sequences import find_sequences
from posfeat_hloc.evaluation.tables import Column, Table, Value
from posfeat_hloc.extractors.choice import FeatureChoice
from posfeat_hloc.networks.small import SMALL
from posfeat_hloc.runtime.reporter import QUIET, Reporter
from posfeat_hloc.training.options import TrainingOptions
from posfeat_hloc.training.pipeline import train


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of its folder.
        stage: of the training.
        options: beside those of all runs.
        start: name of the run whose weights it starts from; None takes those of :class:`Runs`.
    """

    name: str
    stage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None


@dataclass(frozen=True)
class Runs:
    """The trainings of an ablation.

    Attributes:
        comparison: on what they are measured; their folders are in ``runs/`` of its output.
        data: what all are trained on.
        options: of all.
        steps: of description and joint runs.
        detect_steps: of detection runs; a twentieth, as in the paper, when None.
        reporter: hears what is done.
    """

    comparison: Comparison
    data: Sequence[str]
    options: TrainingOptions
    steps: int = 100_000
    detect_steps: int | None = None
    reporter: Reporter = QUIET

    @property
    def folder(self) -> Path:
        """Of the runs."""
        return self.comparison.output / "runs"

    def options_of(self, training: Training) -> TrainingOptions:
        """What one of them is trained with."""
        steps = self.detect_steps or max(1, self.steps // 20) if training.stage == "detect" else self.steps
        start = self.options.init if training.start is None else str(weights_of(self.folder, training.start))
        given: dict[str, Any] = {"stage": training.stage, "steps": steps, "init": start}
        return replace(self.options, **given, **training.options)


@dataclass(frozen=True)
class Model:
    """One row of figure 7.

    Attributes:
        label: what it is.
        run: name of the training whose weights it has.
        keypoints: ``posfeat``, or a conf of other keypoints.
        descriptor: ``posfeat``, or a network of :mod:`posfeat_hloc.extractors.dense`.
    """

    label: str
    run: str
    keypoints: str = "posfeat"
    descriptor: str = "posfeat"


MODEL_TRAININGS = (
    Training("describe", "describe"),
    Training("detect", "detect", start="describe"),
    Training("joint", "joint"),
    Training("describe-c2f", "describe", {"search": "coarse-to-fine"}),
)

MODELS = (
    Model("1: line-to-window, learned keypoints, decoupled", "detect"),
    Model("2: line-to-window, learned keypoints, joint", "joint"),
    Model("3: line-to-window, SIFT keypoints", "describe", keypoints="sift"),
    Model("4: coarse-to-fine, SIFT keypoints", "describe-c2f", keypoints="sift"),
    Model("5: DISK's keypoints, PoSFeat's descriptors", "detect", keypoints="disk"),
    Model("6: PoSFeat's keypoints, DISK's descriptors", "detect", descriptor="disk"),
    Model("7: D2D's keypoints, PoSFeat's descriptors", "detect", keypoints="d2d-hardnet"),
    Model("8: PoSFeat's keypoints, HardNet's descriptors", "detect", descriptor="hardnet"),
)
"""Models 1 to 4 are the paper's. Of 5 to 8 its text says that they combine keypoints and descriptors of several
methods, and only its figure which; these are combinations of what this package has."""


def window_trainings(
    line_points: Sequence[int] = LINE_POINTS, windows: Sequence[float] = WINDOWS
) -> tuple[list[Training], dict[tuple[int, float], Model]]:
    """A description and a detection run for each N_line and w_patch, and what is measured of them."""
    trainings: list[Training] = []
    models = {}
    for points in line_points:
        for window in windows:
            name = f"{points}x{window:g}"
            trainings += [Training(f"describe-{name}", "describe", {"line_points": points, "window": window})]
            trainings += [Training(f"detect-{name}", "detect", start=f"describe-{name}")]
            models[points, window] = Model(f"N_line {points}, w_patch {window:g}", f"detect-{name}")
    return trainings, models


def compare_windows(
    runs: Runs, line_points: Sequence[int] = LINE_POINTS, windows: Sequence[float] = WINDOWS
) -> Ablation:
    """Train and measure each N_line and w_patch (Table 4)."""
    trainings, models = window_trainings(line_points, windows)
    table = Table(
        [Column("N_line", "d"), Column("w_patch", "g"), *_columns(), Column("PoSFeat Table 4 (HPatches)", ".4f")]
    )
    results = _train_and_measure(runs, trainings, list(models.values()))
    for (points, window), model in models.items():
        published = published_cell("PoSFeat Table 4", str(points), f"{window:g}")
        table.rows.append(
            [points, window, *_values(results.measured[model.label], results.steps[model.run]), published]
        )
    return _finish(runs, table, "window", results)


def compare_models(runs: Runs) -> Ablation:
    """Four trainings, eight combinations of keypoints and descriptors (figure 7)."""
    results = _train_and_measure(runs, MODEL_TRAININGS, MODELS)
    table = Table([Column("model"), *_columns()])
    for model in MODELS:
        if model.label in results.measured:
            table.rows.append([model.label, *_values(results.measured[model.label], results.steps[model.run])])
    results.notes.append(
        "PoSFeat prints figure 7 as curves only; its Model 1 is PoSFeat, 0.775 / 0.826 / 0.728 on HPatches"
    )
    return _finish(runs, table, "models", results)


@dataclass(frozen=True)
class _Results:
    """What was measured.

    Attributes:
        measured: label of a model -> its accuracy.
        steps: name of a run -> the step whose weights it exported, the best on held-out pairs.
        notes: for the terminal.
    """

    measured: Mapping[str, MmaResult]
    steps: Mapping[str, str]
    notes: list[str]


def _train_and_measure(runs: Runs, trainings: Sequence[Training], models: Sequence[Model]) -> _Results:
    found = find_sequences(runs.comparison.dataset)
    for training in trainings:
        runs.reporter.say(f"train {training.name}")
        train(runs.data, runs.folder / training.name, runs.options_of(training), runs.reporter)
    exported = {t.name: weights.load(str(weights_of(runs.folder, t.name))).metadata for t in trainings}
    measured: dict[str, MmaResult] = {}
    notes = []
    for model in models:
        backbone = confs.current_names(exported[model.run])["backbone"]
        conf = model_conf(model, weights_of(runs.folder, model.run), backbone)
        try:
            measured |= runs.comparison.measure([FeatureChoice(model.label, conf)], found)
        except WeightsError as error:  # another method's, which may not be at hand
            notes.append(f"not measured: {model.label}: {error}")
    return _Results(measured, {name: metadata["step"] for name, metadata in exported.items()}, notes)


def model_conf(model: Model, file: Path, backbone_name: str) -> confs.Conf:
    """How a model's features are extracted, with the weights that its training made."""
    own = confs.extractors["posfeat-small" if backbone_name == SMALL else "posfeat-hpatches"]
    learned: dict[str, Any] = own["model"] | {"weights": str(file)}
    if model.keypoints == "sift":
        conf = confs.extractors["sift-posfeat"]
        return conf | {"model": conf["model"] | {"weights": str(file)}}
    if model.keypoints == model.descriptor == "posfeat":
        return own | {"model": learned}
    keypoints = learned if model.keypoints == "posfeat" else confs.extractors[model.keypoints]["model"]
    described = {"posfeat": str(file), "disk": "disk-depth"}.get(model.descriptor, model.descriptor)
    mixed = {"name": "mixed", "keypoints": keypoints, "descriptor": model.descriptor, "weights": described}
    return {"output": "feats-mixed", "model": mixed, "preprocessing": own["preprocessing"]}


def weights_of(runs: Path, name: str) -> Path:
    """The best weights of a run."""
    return runs / name / "weights.safetensors"


def _columns() -> list[Column]:
    return [Column("step"), Column("MMAscore", ".4f"), Column("illumination", ".4f"), Column("viewpoint", ".4f"),
            Column("keypoints", ".0f"), Column("matches", ".0f")]  # fmt: skip


def _values(result: MmaResult, step: str) -> list[Value]:
    return [step, *(result.score(group) for group in GROUPS), result.keypoints, result.matches]


def _finish(runs: Runs, table: Table, stem: str, results: _Results) -> Ablation:
    steps = "step: whose weights were the best on held-out pairs and are measured; 0 is the start"
    return runs.comparison.finish(table, stem, [steps, *results.notes], " runs/")
