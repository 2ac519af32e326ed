"""PoSFeat trained from posed images, a stage at a time: your own scenes, MegaDepth, or rendered scenes."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from posfeat_hloc.confs import RENAMED, current_names
from posfeat_hloc.errors import ConfigurationError, DataError, MappingError, Option
from posfeat_hloc.networks.resunet import STRIDE
from posfeat_hloc.networks.small import SMALL
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.training.correspondence_search import CoarseToFineOptions, LineToWindowOptions
from posfeat_hloc.training.dense_networks import Initial, load_initial
from posfeat_hloc.training.detection_loss import DetectionOptions
from posfeat_hloc.training.losses import ContrastiveOptions
from posfeat_hloc.training.options import TrainingOptions
from posfeat_hloc.training.posed_batches import open_source
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.posfeat import PoSFeatTrainer, Processes, TrainOptions
from posfeat_hloc.training.stages import LossOptions, Teacher
from posfeat_hloc.training.views import RandomMix, is_held_out
from posfeat_hloc.weights.loading import load_posfeat

PAPER: dict[str, dict[str, Any]] = {
    "warmup": {"steps": 5_000, "optimizer": "adam", "learning_rate": 1e-3},  # ours; the paper starts from ImageNet
    "distill": {"steps": 5_000, "optimizer": "adam", "learning_rate": 1e-3},  # ours
    "describe": {"steps": 100_000},
    "detect": {"steps": 5_000, "decay_after": 0.8},
    "joint": {"steps": 100_000},
}
"""Steps and optimiser of each stage, where they are not TrainOptions' own."""

REPOSITORY: dict[str, dict[str, Any]] = {
    "warmup": PAPER["warmup"],
    "distill": PAPER["distill"],
    "describe": {"steps": 100_000, "batch": 8, "optimizer": "adam", "learning_rate": 1e-4},
    "detect": {"steps": 5_000, "momentum": 0.0, "decay_after": 0.8},
    "joint": {"steps": 100_000, "batch": 8, "optimizer": "adam", "learning_rate": 1e-4},
}
"""The same where the authors' repository differs from the paper."""

EXPLICIT = ("steps", "batch", "optimizer", "learning_rate")
"""Options that overrule these presets where they are given."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run made.

    Attributes:
        weights: the best ones on held-out pairs.
        metrics: of the last validation.
        chief: whether this process is the one that writes.
    """

    weights: Path
    metrics: dict[str, float]
    chief: bool = True


def train(
    data: Sequence[str], output: Path | str, options: TrainingOptions, reporter: Reporter = QUIET
) -> TrainingResult:
    """Train a stage; the same call resumes from the last checkpoint.

    Of several processes that torch's launcher started, each trains on its own batches; the first one writes.

    Args:
        data: what to train on, each one of :data:`posfeat_hloc.training.posed_batches.FORMS`.
        output: folder for checkpoint, log, images and ``weights.safetensors``.
        options: see :class:`TrainingOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    output = Path(output)
    alone = only_writer(output) if os.environ.get("RANK", "0") == "0" else nullcontext()
    try:
        with alone, reporting(reporter):
            return _train(data, output, options, reporter)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _train(data: Sequence[str], output: Path, args: TrainingOptions, reporter: Reporter) -> TrainingResult:
    """Open the data, say what is trained on what, and train."""
    if args.stage == "warmup" and not all(text.startswith("synthetic:") for text in data):
        raise ConfigurationError("the warm-up needs true correspondences: give it synthetic:DIR only")
    if (args.stage == "distill") != (args.teacher is not None):
        raise ConfigurationError(
            Option("stage", "distill"),
            " and ",
            Option("teacher"),
            " belong together: distillation needs a teacher",
        )
    initial = load_initial(args.init) if args.init else None
    teacher = Teacher(load_posfeat(args.teacher)) if args.teacher else None
    options = train_options(data, args, initial, teacher.sha256 if teacher else None)
    device, processes = start_processes(args.device)
    chief = processes.rank == 0
    reporter = reporter if chief else QUIET
    source, validation = open_data(data, args, reporter)
    start = initial.tensors if initial else None
    trainer = PoSFeatTrainer(options, source, validation, output, start, device, processes, args.workers, teacher)
    size = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad) / 1e6
    reporter.say(
        f"stage {options.stage}: {size:.2f} M parameters of {options.backbone} at {args.size[0]}x{args.size[1]}, "
        f"{options.steps} steps of {options.batch * options.accumulate * processes.count} pairs on {device}, "
        + (f"resumed at step {trainer.step}" if trainer.step else f"from {args.init or 'random weights'}")
    )
    metrics = trainer.run(reporter.progress)
    return TrainingResult(trainer.weights_file, metrics, chief)


def start_processes(device: str) -> tuple[torch.device, Processes]:
    """Join the processes that torch's launcher started, if it did; each takes its own GPU."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return torch.device(choose_device(device)), Processes()
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(
            Option("device", device), ": of several processes each takes its own; write cuda or cpu"
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    chosen = torch.device(choose_device(f"cuda:{local}" if gpu else "cpu"))
    if gpu:
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if gpu else "gloo")
    return chosen, Processes(distributed.get_rank(), count)


def train_options(
    sources: Sequence[str], args: TrainingOptions, initial: Initial | None, teacher: str | None = None
) -> TrainOptions:
    """The preset of the stage, overruled by the options and by what the run starts from.

    Args:
        sources: what is trained on.
        args: as given.
        initial: weights that it starts from.
        teacher: SHA-256 of the teacher's weights.

    Raises:
        ConfigurationError: the start does not fit.
    """
    if args.stage == "detect" and (initial is None or not initial.has_descriptors):
        raise ConfigurationError(
            Option("stage", "detect"), " needs a trained description network; give its weights with ", Option("init")
        )
    backbone_name = args.backbone or (initial.backbone_name if initial else "resnet50")
    if initial and backbone_name != initial.backbone_name:
        raise ConfigurationError(
            f"{args.init}: weights of a {initial.backbone_name}; leave out ", Option("backbone", backbone_name)
        )
    natural = "consistent" if backbone_name == SMALL else "published"
    grid_alignment = args.grid_alignment or (initial.grid_alignment if initial else None) or natural
    if args.stage == "detect" and initial and grid_alignment != initial.grid_alignment:
        raise ConfigurationError(
            f"{args.init}: trained with the {initial.grid_alignment} convention; leave out ", Option("grid_alignment")
        )
    by_paper = args.variant == "paper"
    search = LineToWindowOptions(grid_alignment=grid_alignment)
    if not by_paper:
        search = replace(search, noise="official-code", sigma="official-code")
    search = replace(search, **_given(args, ("sigma", "min_variance", "window", "line_points")))
    coarse = CoarseToFineOptions(grid_alignment=grid_alignment, **_given(args, ("sigma", "min_variance", "window")))
    threshold: dict[str, Any] = {} if args.right_within is None else {"threshold": args.right_within}
    loss = LossOptions(
        search=args.search,
        line_to_window=search,
        coarse_to_fine=coarse,
        contrastive=ContrastiveOptions(grid_alignment=grid_alignment),
        detection=DetectionOptions(form=args.variant, **threshold),
    )
    loss = changed(loss, args.set)
    preset = (PAPER if by_paper else REPOSITORY)[args.stage]
    used = coarse.window if args.search == "coarse-to-fine" else search.window
    if args.stage in ("describe", "joint") and int(used * min(args.size) / STRIDE) < 2:
        raise ConfigurationError(f"a window of {used:g} of {args.size[0]}x{args.size[1]} holds less than 2x2 cells")
    own = _given(args, ("accumulate", "precision", "seed", "validate_every", "save_every", "color", "relight"))
    start = initial.sha256 if initial else "random"
    data = (*sources, "x".join(map(str, args.size)), f"{args.max_rotation:g} degrees", f"start {start}")
    data += (f"{args.validation_pairs} validation pairs",)
    data += (f"teacher {teacher}",) if teacher else ()
    fixed: dict[str, Any] = {"stage": args.stage, "backbone": backbone_name, "loss": loss, "data": data}
    return TrainOptions(**fixed | preset | own | _given(args, EXPLICIT))


def open_data(
    sources: Sequence[str], args: TrainingOptions, reporter: Reporter = QUIET
) -> tuple[RandomMix[PosedPair], list[PosedPair]]:
    """Training pairs of all sources in equal shares, and a fixed list of held-out pairs.

    A tenth of the names (images; of MegaDepth scenes), always the same ones, is held out. Where that leaves either part
    without a pair, as in a scene of few images, all pairs are trained and validated on, and it is said so.
    """
    training, held_out = [], []
    for text in sources:
        try:
            source = open_source(text, args.size, args.max_rotation, keep=lambda name: not is_held_out(name))
            kept = open_source(text, args.size, args.max_rotation, keep=is_held_out)
        except (DataError, MappingError):
            source = kept = open_source(text, args.size, args.max_rotation)
        training.append((1.0, source))
        held_out.append((1.0, kept))
        small = "; too small to hold pairs out, validated on the same ones" if kept is source else ""
        reporter.say(f"{text}: {source.description}{small}")
    rng = np.random.default_rng(12345)
    mix = RandomMix(held_out)
    return RandomMix(training), [mix.sample(rng) for _ in range(args.validation_pairs)]


def _given(args: TrainingOptions, names: tuple[str, ...]) -> dict[str, Any]:
    """Options that are given."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def changed(loss: LossOptions, texts: Sequence[str]) -> LossOptions:
    """The options of the losses with others in place of some.

    Args:
        loss: what holds otherwise.
        texts: ``max_distance=0.5``, ``detection.sides=one`` and their like.

    Raises:
        ConfigurationError: another form, a name that does not exist, or a value of another type.
    """
    for text in texts:
        name, equals, value = text.partition("=")
        name = ".".join(RENAMED.get(part, part) for part in name.split("."))
        if not equals or name not in dict(_names(loss)):
            known = ", ".join(known for known, _ in _names(LossOptions()))
            raise ConfigurationError(Option("set"), f" {text!r}: write NAME=VALUE, NAME one of {known}")
        loss = _with(loss, name.split("."), current_names({name.rpartition(".")[2]: _value(value)}).popitem()[1], text)
    return loss


def _names(options: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """All options with their values, those of options within options after a dot."""
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _names(value, f"{before}{field.name}.")
        else:
            yield before + field.name, value


def _with(options: Any, path: list[str], value: Any, text: str) -> Any:
    old = getattr(options, path[0])
    if len(path) > 1:
        return replace(options, **{path[0]: _with(old, path[1:], value, text)})
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(old) is not type(value):
        raise ConfigurationError(Option("set"), f" {text!r}: {path[0]} is {old!r}, so the value must be of this kind")
    return replace(options, **{path[0]: value})


def _value(text: str) -> Any:
    """Numbers and True as Python writes them, ``inf``, and texts."""
    if text == "inf":
        return float(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
