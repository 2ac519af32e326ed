"""PoSFeat's ablations: line samples and window (Table 4), Models 1 to 8 (figure 7), each trained by pipelines.train."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import train
from pipelines.hpatches import measure_features, results_folder
from posfeat_hloc import confs, weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.evaluation.mma import GROUPS, MmaResult
from posfeat_hloc.evaluation.published import published_cell
from posfeat_hloc.evaluation.sequences import find_sequences
from posfeat_hloc.evaluation.tables import Column, Table, Value
from posfeat_hloc.extractors.choice import FeatureChoice
from posfeat_hloc.networks.small import SMALL

LINE_POINTS = (75, 100, 125)
WINDOWS = (0.075, 0.1, 0.125)

_OWN = ("--stage", "--search")


@dataclass(frozen=True)
class Training:
    """One run of pipelines.train.

    Attributes:
        name: of its folder.
        stage: of the training.
        options: beside those of all runs.
        start: name of the run whose weights it starts from; None takes ``--init``.
    """

    name: str
    stage: str
    options: tuple[str, ...] = ()
    start: str | None = None


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
    Training("describe-c2f", "describe", ("--search", "coarse-to-fine")),
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


def compare_windows(args: argparse.Namespace, rest: Sequence[str]) -> bool:
    """A description and a detection run for each N_line and w_patch (Table 4)."""
    _refuse(rest, (*_OWN, "--line-points", "--window"))
    trainings, models = [], {}
    for points in args.line_points:
        for window in args.windows:
            name = f"{points}x{window:g}"
            options = ("--line-points", str(points), "--window", f"{window:g}")
            trainings += [Training(f"describe-{name}", "describe", options)]
            trainings += [Training(f"detect-{name}", "detect", start=f"describe-{name}")]
            models[points, window] = Model(f"N_line {points}, w_patch {window:g}", f"detect-{name}")
    table = Table(
        [Column("N_line", "d"), Column("w_patch", "g"), *_columns(), Column("PoSFeat Table 4 (HPatches)", ".4f")]
    )
    results = _train_and_measure(args, rest, trainings, list(models.values()))
    if results is None:
        return True
    for (points, window), model in models.items():
        published = published_cell("PoSFeat Table 4", str(points), f"{window:g}")
        table.rows.append(
            [points, window, *_values(results.measured[model.label], results.steps[model.run]), published]
        )
    return _finish(args, table, "window", results)


def compare_models(args: argparse.Namespace, rest: Sequence[str]) -> bool:
    """Four trainings, eight combinations of keypoints and descriptors (figure 7)."""
    _refuse(rest, _OWN)
    results = _train_and_measure(args, rest, MODEL_TRAININGS, MODELS)
    if results is None:
        return True
    table = Table([Column("model"), *_columns()])
    for model in MODELS:
        if model.label in results.measured:
            table.rows.append([model.label, *_values(results.measured[model.label], results.steps[model.run])])
    results.notes.append(
        "PoSFeat prints figure 7 as curves only; its Model 1 is PoSFeat, 0.775 / 0.826 / 0.728 on HPatches"
    )
    return _finish(args, table, "models", results)


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


def _train_and_measure(
    args: argparse.Namespace, rest: Sequence[str], trainings: Sequence[Training], models: Sequence[Model]
) -> _Results | None:
    """None after a dry run, which prints the commands only."""
    found = find_sequences(args.dataset)
    runs = results_folder(args) / "runs"
    for training in trainings:
        command = training_command(training, args, runs, rest)
        print(f"\npython -m pipelines.train {shlex.join(command)}", flush=True)
        if not args.dry_run:
            train.train(train.arguments(command))
    if args.dry_run:
        return None
    exported = {t.name: weights.load(str(_weights(runs, t.name))).metadata for t in trainings}
    measured: dict[str, MmaResult] = {}
    notes = []
    for model in models:
        conf = model_conf(model, _weights(runs, model.run), confs.current_names(exported[model.run])["backbone"])
        try:
            measured |= measure_features(args, [FeatureChoice(model.label, conf)], found, results_folder(args))
        except WeightsError as error:  # another method's, which may not be at hand
            notes.append(f"not measured: {model.label}: {error}")
    return _Results(measured, {name: metadata["step"] for name, metadata in exported.items()}, notes)


def training_command(training: Training, args: argparse.Namespace, runs: Path, rest: Sequence[str]) -> list[str]:
    """The arguments of pipelines.train."""
    steps = args.detect_steps or max(1, args.steps // 20) if training.stage == "detect" else args.steps
    start = args.init if training.start is None else str(_weights(runs, training.start))
    command = ["--stage", training.stage, "--output", str(runs / training.name), "--steps", str(steps)]
    command += ["--device", args.device, *(["--init", start] if start else []), *training.options]
    return [*command, *rest]


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


def _weights(runs: Path, name: str) -> Path:
    return runs / name / "weights.safetensors"


def _refuse(rest: Sequence[str], own: Sequence[str]) -> None:
    if taken := [item for item in rest if item.partition("=")[0] in own]:
        raise ConfigurationError(f"{taken[0]}: this command sets it itself")
    if "--data" not in rest:
        raise ConfigurationError("--data is missing: what to train on, as pipelines.train takes it")


def _columns() -> list[Column]:
    return [Column("step"), Column("MMAscore", ".4f"), Column("illumination", ".4f"), Column("viewpoint", ".4f"),
            Column("keypoints", ".0f"), Column("matches", ".0f")]  # fmt: skip


def _values(result: MmaResult, step: str) -> list[Value]:
    return [step, *(result.score(group) for group in GROUPS), result.keypoints, result.matches]


def _finish(args: argparse.Namespace, table: Table, stem: str, results: _Results) -> bool:
    output = results_folder(args)
    table.write(output, stem)
    print(f"\n{table.as_latex() if args.latex else table.as_text()}\n")
    steps = "step: whose weights were the best on held-out pairs and are measured; 0 is the start"
    print("\n".join([steps, *results.notes, f"files: {output}/ {stem}.csv {stem}.tex runs/"]))
    return bool(table.rows)
