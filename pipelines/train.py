"""Train PoSFeat from posed images: a stage at a time, on your own scenes, on MegaDepth, or on rendered scenes.

    python -m pipelines.train --stage warmup   --data synthetic:photos --output runs/warmup
    python -m pipelines.train --stage describe --data colmap:scene synthetic:photos \\
        --init runs/warmup/weights.safetensors --output runs/describe
    python -m pipelines.train --stage detect   --data colmap:scene synthetic:photos \\
        --init runs/describe/weights.safetensors --output runs/detect
    python -m pipelines.sfm --images photos --feature posfeat --weights runs/detect/weights.safetensors

A run that was stopped goes on when the same command is given again. On several GPUs, start it with
torchrun --nproc_per_node N -m pipelines.train ...; --batch is per GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from pipelines.train_settings import changed
from posfeat_hloc import confs
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError, DataError, MappingError
from posfeat_hloc.networks.posfeat import BACKBONES, GRID_ALIGNMENTS
from posfeat_hloc.networks.resunet import STRIDE
from posfeat_hloc.networks.small import SMALL
from posfeat_hloc.runtime.devices import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.training.coarse_to_fine import CoarseToFineOptions
from posfeat_hloc.training.contrastive_warmup import ContrastiveOptions
from posfeat_hloc.training.detection_loss import DetectionOptions
from posfeat_hloc.training.distillation import Teacher
from posfeat_hloc.training.line_to_window import LineToWindowOptions
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, PosedPair
from posfeat_hloc.training.posfeat import PoSFeatTrainer, Processes, TrainOptions
from posfeat_hloc.training.pretrained import Initial, load_initial
from posfeat_hloc.training.sources import FORMS, open_source
from posfeat_hloc.training.stages import STAGES, LossOptions
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
"""Options of the command line that overrule these presets."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, train a stage; returns the exit code."""
    args = arguments(argv)
    try:
        resume = "the same command goes on from the last checkpoint, if there is one"
        return exit_code(lambda: _train_alone(args), args.output, resume)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What :func:`train` takes, from a command line; for commands that make several runs, too."""
    return _parser().parse_args(argv)


def _train_alone(args: argparse.Namespace) -> bool:
    """Train, with no other run in the folder; of several processes of one run the first keeps others out."""
    with only_writer(args.output) if os.environ.get("RANK", "0") == "0" else nullcontext():
        return train(args)


def train(args: argparse.Namespace) -> bool:
    """Open the data, say what is trained on what, train, and say how good it is."""
    if args.stage == "warmup" and not all(text.startswith("synthetic:") for text in args.data):
        raise ConfigurationError("the warm-up needs true correspondences: give it synthetic:DIR only")
    if (args.stage == "distill") != (args.teacher is not None):
        raise ConfigurationError("--stage distill and --teacher belong together: whose answers are to be learnt")
    initial = load_initial(args.init) if args.init else None
    teacher = Teacher(load_posfeat(args.teacher)) if args.teacher else None
    options = train_options(args, initial, teacher.sha256 if teacher else None)
    device, processes = start_processes(args.device)
    chief = processes.rank == 0
    source, validation = open_data(args, talk=chief)
    start = initial.tensors if initial else None
    trainer = PoSFeatTrainer(options, source, validation, args.output, start, device, processes, args.workers, teacher)
    if chief:
        size = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad) / 1e6
        print(
            f"stage {options.stage}: {size:.2f} M parameters of {options.backbone} at {args.size[0]}x{args.size[1]}, "
            f"{options.steps} steps of {options.batch * options.accumulate * processes.count} pairs on {device}, "
            + (f"resumed at step {trainer.step}" if trainer.step else f"from {args.init or 'random weights'}"),
            flush=True,
        )
    metrics = trainer.run()
    if chief:
        for name, value in metrics.items():
            print(f"  {name:<14}{value:.4f}")
        print(f"the best weights: {trainer.weights_file}")
    return True


def start_processes(device: str) -> tuple[torch.device, Processes]:
    """Join the processes that torch's launcher started, if it did; each takes its own GPU."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return torch.device(choose_device(device)), Processes()
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device {device}: of several processes each takes its own; write cuda or cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    chosen = torch.device(choose_device(f"cuda:{local}" if gpu else "cpu"))
    if gpu:
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if gpu else "gloo")
    return chosen, Processes(distributed.get_rank(), count)


def train_options(args: argparse.Namespace, initial: Initial | None, teacher: str | None = None) -> TrainOptions:
    """The preset of the stage, overruled by what the command line says and by what the run starts from.

    Args:
        args: of :func:`arguments`.
        initial: of ``--init``.
        teacher: SHA-256 of the teacher's weights.

    Raises:
        ConfigurationError: the start does not fit.
    """
    if args.stage == "detect" and (initial is None or not initial.has_descriptors):
        raise ConfigurationError("--stage detect needs a trained description network; give its weights with --init")
    backbone_name = args.backbone_name or (initial.backbone_name if initial else "resnet50")
    if initial and backbone_name != initial.backbone_name:
        raise ConfigurationError(
            f"{args.init}: weights of a {initial.backbone_name}; leave out --backbone {backbone_name}"
        )
    natural = "consistent" if backbone_name == SMALL else "published"
    grid_alignment = args.grid_alignment or (initial.grid_alignment if initial else None) or natural
    if args.stage == "detect" and initial and grid_alignment != initial.grid_alignment:
        raise ConfigurationError(
            f"{args.init}: trained with the {initial.grid_alignment} convention; leave out --grid-alignment"
        )
    by_paper = args.variant == "paper"
    search = LineToWindowOptions(grid_alignment=grid_alignment)
    if not by_paper:
        search = replace(search, noise="official-code", sigma="official-code")
    search = replace(search, **_given(args, ("sigma", "min_variance", "window", "line_points")))
    coarse = CoarseToFineOptions(grid_alignment=grid_alignment, **_given(args, ("sigma", "min_variance", "window")))
    loss = LossOptions(
        search=args.search,
        line_to_window=search,
        coarse_to_fine=coarse,
        contrastive=ContrastiveOptions(grid_alignment=grid_alignment),
        detection=DetectionOptions(form=args.variant, **_given(args, ("threshold",))),
    )
    loss = changed(loss, args.set)
    preset = (PAPER if by_paper else REPOSITORY)[args.stage]
    used = coarse.window if args.search == "coarse-to-fine" else search.window
    if args.stage in ("describe", "joint") and int(used * min(args.size) / STRIDE) < 2:
        raise ConfigurationError(f"a window of {used:g} of {args.size[0]}x{args.size[1]} holds less than 2x2 cells")
    own = _given(args, ("accumulate", "precision", "seed", "validate_every", "save_every", "color", "light"))
    start = initial.sha256 if initial else "random"
    data = (*args.data, "x".join(map(str, args.size)), f"{args.max_rotation:g} degrees", f"start {start}")
    data += (f"{args.validation_pairs} validation pairs",)
    data += (f"teacher {teacher}",) if teacher else ()
    fixed = {"stage": args.stage, "backbone": backbone_name, "loss": loss, "data": data}
    return TrainOptions(**fixed | preset | own | _given(args, EXPLICIT))


def open_data(args: argparse.Namespace, talk: bool = True) -> tuple[RandomMix[PosedPair], list[PosedPair]]:
    """Training pairs of all sources in equal shares, and a fixed list of held-out pairs.

    A tenth of the names (images; of MegaDepth scenes), always the same ones, is held out. Where that leaves either part
    without a pair, as in a scene of few images, all pairs are trained and validated on, and it is said so.
    """
    training, held_out = [], []
    for text in args.data:
        try:
            source = open_source(text, args.size, args.max_rotation, keep=lambda name: not is_held_out(name))
            kept = open_source(text, args.size, args.max_rotation, keep=is_held_out)
        except (DataError, MappingError):
            source = kept = open_source(text, args.size, args.max_rotation)
        training.append((1.0, source))
        held_out.append((1.0, kept))
        if talk:
            small = "; too small to hold pairs out, validated on the same ones" if kept is source else ""
            print(f"{text}: {source.description}{small}", flush=True)
    rng = np.random.default_rng(12345)
    mix = RandomMix(held_out)
    return RandomMix(training), [mix.sample(rng) for _ in range(args.validation_pairs)]


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Options the user gave."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _not_negative(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if (
        not cross
        or not width.isdigit()
        or not height.isdigit()
        or int(width) % 16
        or int(height) % 16
        or int(height) * int(width) == 0
    ):
        raise argparse.ArgumentTypeError(f"{text!r}: write WIDTHxHEIGHT, both multiples of 16, e.g. 640x480")
    return int(width), int(height)


def _variant(text: str) -> str:
    return str(confs.current_names({"variant": text})["variant"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--stage", choices=STAGES, required=True,
        help="warmup (contrastive, needs no weights), distill (imitates --teacher), describe, detect, or joint "
        "(the paper's Model 2)")  # fmt: skip
    add("--data", nargs="+", required=True, metavar="KIND:DIR", help="what to train on: " + "; ".join(FORMS))
    add("--output", type=Path, required=True, help="folder for checkpoint, log, pictures and weights.safetensors")
    add("--init", metavar="NAME|FILE|DIR",
        help="start from PoSFeat weights, the authors' folder, or torchvision's file of a ResNet")  # fmt: skip
    add("--teacher", metavar="NAME|FILE|DIR",
        help="of distill: PoSFeat weights whose descriptors and scores are learnt, e.g. posfeat-small")  # fmt: skip
    add("--backbone", "--trunk", dest="backbone_name", choices=BACKBONES,
        help="ResNet of the description network, or our own light form of both networks "
        "(default: --init's, or resnet50)")  # fmt: skip
    add("--size", type=_size, default=(640, 480), metavar="WxH", help="of training images (default: 640x480)")
    add("--variant", type=_variant, choices=["paper", "official-code"], default="paper",
        help="whose steps, optimiser, noise, sigma and reward, where they differ (default: %(default)s)")  # fmt: skip
    add("--steps", type=int, help="optimiser steps (default: 100000, detect, warmup and distill 5000)")
    add("--batch", type=int, help="image pairs of a process (default: 6)")
    add("--accumulate", type=int, default=1, help="batches averaged in a step (default: %(default)s)")
    add("--optimizer", choices=["sgd", "adam"], help="default: sgd with Nesterov momentum; warmup and distill: adam")
    add("--learning-rate", type=float, help="default: 0.001; official-code's describe: 0.0001")
    add("--search", choices=["line-to-window", "coarse-to-fine"], default="line-to-window",
        help="how correspondences are searched (default: %(default)s; the other is the paper's Model 4)")  # fmt: skip
    add("--line-points", type=int, metavar="N",
        help="points on an epipolar line, N_line, of line-to-window (default: 100)")  # fmt: skip
    add("--window", type=float, metavar="W",
        help="side of the window as a part of the image, w_patch (default: 0.1; coarse-to-fine: 0.125)")  # fmt: skip
    add(
        "--sigma",
        type=_variant,
        choices=["paper", "official-code"],
        help="variance (eq. 8) or sum of deviations (default: --variant's)",
    )
    add("--min-variance", type=float, metavar="V",
        help="floor of the variances (default: 1e-10; at 1e-5 no single point rules)")  # fmt: skip
    add("--right-within", type=float, dest="threshold", metavar="PX",
        help="epipolar distance below which a match is rewarded in the detection stage (default: 2)")  # fmt: skip
    add("--set", nargs="+", default=[], metavar="NAME=VALUE",
        help="any other option of the losses, e.g. detection.sides=one (docs/deviations.md)")  # fmt: skip
    add("--grid-alignment", "--convention", choices=GRID_ALIGNMENTS,
        help="where the cells of the map lie; recorded in the weights (default: --init's, or published; "
        "of the backbone small: consistent)")  # fmt: skip
    add(
        "--color",
        "--colour",
        type=float,
        default=1.0,
        help="strength of the color jitter, 0 to 1 (default: %(default)s)",
    )
    add("--light", type=float, default=0.0,
        help="strength of exposure, shade, blur, noise and JPEG beside it, 0 to 1 (default: %(default)s)")  # fmt: skip
    add("--max-rotation", type=float, default=MAX_ROTATION, metavar="DEG",
        help="between the cameras of a pair (default: %(default)g)")  # fmt: skip
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="default: %(default)s")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--workers", type=_not_negative, default=0,
        help="processes that prepare batches (default: in the training process)")  # fmt: skip
    add("--validation-pairs", type=_positive, default=24, metavar="N", help="held-out pairs (default: %(default)s)")
    add("--validate-every", type=int, default=1000, metavar="STEPS",
        help="and export the weights if they are the best so far (default: %(default)s)")  # fmt: skip
    add("--save-every", type=int, default=100, metavar="STEPS",
        help="a checkpoint to resume from (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
