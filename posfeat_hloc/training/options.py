"""Options of PoSFeat's training. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from posfeat_hloc import confs
from posfeat_hloc.runtime.options import AtLeast, Flag, Reads, Unit, check_options

Stage = Literal["warmup", "distill", "describe", "detect", "joint"]
Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "small"]
GridAlignment = Literal["published", "consistent"]
Variant = Literal["paper", "official-code"]
Search = Literal["line-to-window", "coarse-to-fine"]


def read_variant(text: str) -> str:
    """A variant by its name of today or of before."""
    return str(confs.current_names({"variant": text})["variant"])


def read_size(text: str) -> tuple[int, int]:
    """Width and height of training images, ``640x480``."""
    width, _, height = text.partition("x")
    known = width.isdigit() and height.isdigit() and int(width) * int(height) > 0
    if not known or int(width) % 16 or int(height) % 16:
        raise ValueError(f"{text!r}: write WIDTHxHEIGHT, both multiples of 16, e.g. 640x480")
    return int(width), int(height)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How PoSFeat is trained; see :func:`posfeat_hloc.training.pipeline.train`."""

    stage: Stage
    """warmup (contrastive, needs no weights), distill (imitates a teacher), describe, detect, or joint (the paper's
    Model 2)."""
    init: Annotated[str | None, Unit("NAME|FILE|DIR")] = None
    """Start from PoSFeat weights, the authors' folder, or torchvision's file of a ResNet."""
    teacher: Annotated[str | None, Unit("NAME|FILE|DIR")] = None
    """Of distill: PoSFeat weights whose descriptors and scores are learnt, e.g. posfeat-small."""
    backbone: Annotated[Backbone | None, Flag(("--backbone", "--trunk"))] = None
    """ResNet of the description network, or our own light form of both networks (default: that of the weights it starts
    from, or resnet50)."""
    size: Annotated[tuple[int, int], Reads(read_size), Unit("WxH")] = (640, 480)
    """Of training images (default: 640x480)."""
    variant: Annotated[Variant, Reads(read_variant)] = "paper"
    """Whose steps, optimiser, noise, sigma and reward, where they differ."""
    steps: int | None = None
    """Optimiser steps (default: 100000, detect, warmup and distill 5000)."""
    batch: int | None = None
    """Image pairs of a process (default: 6)."""
    accumulate: int = 1
    """Batches averaged in a step."""
    optimizer: Literal["sgd", "adam"] | None = None
    """Who moves the weights (default: sgd with Nesterov momentum; warmup and distill: adam)."""
    learning_rate: float | None = None
    """Of the optimiser (default: 0.001; official-code's describe: 0.0001)."""
    search: Search = "line-to-window"
    """How correspondences are searched; coarse-to-fine is the paper's Model 4."""
    line_points: Annotated[int | None, Unit("N")] = None
    """Points on an epipolar line, N_line, of line-to-window (default: 100)."""
    window: Annotated[float | None, Unit("W")] = None
    """Side of the window as a part of the image, w_patch (default: 0.1; coarse-to-fine: 0.125)."""
    sigma: Annotated[Variant | None, Reads(read_variant)] = None
    """Variance (eq. 8) or sum of deviations (default: the variant's)."""
    min_variance: Annotated[float | None, Unit("V")] = None
    """Floor of the variances (default: 1e-10; at 1e-5 no single point rules)."""
    right_within: Annotated[float | None, Unit("PX")] = None
    """Epipolar distance below which a match is rewarded in the detection stage (default: 2)."""
    set: Annotated[tuple[str, ...], Unit("NAME=VALUE")] = ()
    """Any other option of the losses, e.g. detection.sides=one (docs/deviations.md)."""
    grid_alignment: Annotated[GridAlignment | None, Flag(("--grid-alignment", "--convention"))] = None
    """Where the cells of the map lie; recorded in the weights (default: that of the weights it starts from, or
    published; of the backbone small: consistent)."""
    color: Annotated[float, Flag(("--color", "--colour"))] = 1.0
    """Strength of the color jitter, 0 to 1."""
    light: float = 0.0
    """Strength of exposure, shade, blur, noise and JPEG beside it, 0 to 1 (default: 0)."""
    max_rotation: Annotated[float, Unit("DEG")] = 80.0
    """Between the cameras of a pair."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    workers: Annotated[int, AtLeast(0)] = 0
    """Processes that prepare batches (default: in the training process)."""
    validation_pairs: Annotated[int, AtLeast(1), Unit("N")] = 24
    """Held-out pairs."""
    validate_every: Annotated[int, Unit("STEPS")] = 1000
    """And export the weights if they are the best so far."""
    save_every: Annotated[int, Unit("STEPS")] = 100
    """A checkpoint to resume from."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        check_options(self)
