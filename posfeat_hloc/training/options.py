"""Options of all trainings and of collecting photographs for them. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
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


Models = Annotated[tuple[tuple[str, str], ...], Unit("MODEL IMAGES")]
Folders = Annotated[tuple[Path, ...], Unit("DIR")]
Precision = Literal["auto", "bf16", "fp32"]
DescriptorNetwork = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "small", "hardnet", "sosnet"
]


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Options of a PoSFeat training that no stage has values of its own for."""

    accumulate: int = 1
    """Batches whose gradients are averaged in a step."""
    color: Annotated[float, Flag(("--color", "--colour"))] = 1.0
    """Strength of the color jitter, 0 to 1."""
    relight: Annotated[float, Flag(("--relight", "--light"))] = 0.0
    """Strength of exposure, shade, blur, noise and JPEG beside it, 0 to 1 (default: 0)."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the convolutions."""
    validate_every: Annotated[int, Unit("STEPS")] = 1000
    """Steps between validations; the best weights are exported."""
    save_every: Annotated[int, Unit("STEPS")] = 100
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of weights and batches."""


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """A stage, its initial weights, and changes to its preset."""

    stage: Stage
    """warmup (contrastive, needs no weights), distill (learns from a teacher), describe, detect, or joint (the paper's
    Model 2)."""
    init: Annotated[str | None, Unit("NAME|FILE|DIR")] = None
    """Start from PoSFeat weights, the authors' folder, or torchvision's file of a ResNet."""
    teacher: Annotated[str | None, Unit("NAME|FILE|DIR")] = None
    """Teacher of the stage distill: PoSFeat weights, e.g. posfeat-small."""
    backbone: Annotated[Backbone | None, Flag(("--backbone", "--trunk"))] = None
    """ResNet of the description network, or the small form of both networks (default: that of the weights it starts
    from, or resnet50)."""
    size: Annotated[tuple[int, int], Reads(read_size), Unit("WxH")] = (640, 480)
    """Size of training images (default: 640x480)."""
    variant: Annotated[Variant, Reads(read_variant)] = "paper"
    """Steps, optimiser, noise, sigma and reward of the paper or of the authors' code."""
    steps: int | None = None
    """Optimiser steps (default: 100000, detect, warmup and distill 5000)."""
    batch: int | None = None
    """Image pairs per process (default: 6)."""
    optimizer: Literal["sgd", "adam"] | None = None
    """Optimiser (default: sgd with Nesterov momentum; warmup and distill: adam)."""
    learning_rate: float | None = None
    """Learning rate (default: 0.001; official-code's describe: 0.0001)."""
    search: Search = "line-to-window"
    """How correspondences are searched; coarse-to-fine is the paper's Model 4."""
    line_points: Annotated[int | None, Unit("N")] = None
    """Points on an epipolar line, N_line, of line-to-window (default: 100)."""
    window: Annotated[float | None, Unit("W")] = None
    """Side of the window as a fraction of the image, w_patch (default: 0.1; coarse-to-fine: 0.125)."""
    sigma: Annotated[Variant | None, Reads(read_variant)] = None
    """Variance (eq. 8) or sum of deviations (default: the variant's)."""
    min_variance: Annotated[float | None, Unit("V")] = None
    """Floor of the variances (default: 1e-10; 1e-5 limits the weight of single points)."""
    right_within: Annotated[float | None, Unit("PX")] = None
    """Epipolar distance below which a match is rewarded in the detection stage (default: 2)."""
    set: Annotated[tuple[str, ...], Unit("NAME=VALUE")] = ()
    """Any other option of the losses, e.g. detection.sides=one (docs/deviations.md)."""
    grid_alignment: Annotated[GridAlignment | None, Flag(("--grid-alignment", "--convention"))] = None
    """Where the cells of the map lie; recorded in the weights (default: that of the weights it starts from, or
    published; of the backbone small: consistent)."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(LoopOptions, StageOptions):
    """How PoSFeat is trained; see :func:`posfeat_hloc.training.pipeline.train`."""

    max_rotation: Annotated[float, Unit("DEG")] = 80.0
    """Maximum rotation between the cameras of a pair."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    workers: Annotated[int, AtLeast(0)] = 0
    """Processes that prepare batches (default: in the training process)."""
    validation_pairs: Annotated[int, AtLeast(1), Unit("N")] = 24
    """Held-out pairs."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class PatchTrainingOptions:
    """How patch descriptors are trained; see :func:`posfeat_hloc.training.patch_descriptors.train_patches`."""

    photos: Folders = ()
    """Folders of single photographs."""
    model: Models = ()
    """A COLMAP model and the folder of its images; may be repeated."""
    architecture: Literal["hardnet", "sosnet"] = "hardnet"
    """Triplet loss, or triplet loss and second-order similarity."""
    form: Literal["dense", "patches"] = "dense"
    """Train the dense map that D2D reads, or 32x32 patches (as Liberty was made)."""
    init: Annotated[str | None, Unit("NAME|FILE")] = None
    """Start from these weights, of either architecture."""
    steps: int = 2000
    """Optimiser steps."""
    pairs: int = 8
    """View pairs in a batch."""
    points: int = 128
    """Points read from a pair."""
    learning_rate: float = 2e-3
    """Peak rate of Adam; warmed up over the first 3 % of the steps, then lowered along a cosine to zero."""
    window: Annotated[int, Unit("PX")] = 33
    """Local normalisation window of the dense form, odd."""
    eps: float = 0.01
    """Added to the local deviation of intensities in [0, 1]."""
    safe_radius: Annotated[float, Unit("PX")] = 12.0
    """Points of one view closer than this are not negatives of each other."""
    dropout: float = 0.0
    """Dropout before the last convolution; the papers use 0.3 (HardNet) and 0.1 (SOSNet) for far longer training."""
    second_order: float = 1.0
    """Weight of the second-order similarity (SOSNet only)."""
    synthetic_share: float = 0.6
    """Share of batches from single photographs when there are models too."""
    relight: Annotated[float, Flag(("--relight", "--light"))] = 1.0
    """Strength of illumination changes, 0 to 1."""
    validation_pairs: int = 48
    """Held-out view pairs."""
    validate_every: Annotated[int, Unit("STEPS")] = 100
    """Steps between validations, each with a checkpoint."""
    seed: int = 0
    """Seed of weights and batches."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigurationError(
                Option("window", self.window), ": the normalisation window must be odd and positive"
            )


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """Content of a pack; see :func:`posfeat_hloc.training.packing.pack_views`."""

    photos: Folders = ()
    """Folders of single photographs."""
    model: Models = ()
    """A COLMAP model and the folder of its images; may be repeated."""
    fixed: Folders = ()
    """Folders of photographs of one fixed camera each."""
    sessions: Folders = ()
    """Folders of photographs of nearly one view each."""
    feature: str = "posfeat-small"
    """Feature for the alignment of fixed cameras and sessions."""
    weights: Annotated[str | None, Unit("NAME|FILE")] = None
    """Weights of that feature."""
    device: str = "auto"
    """Device of that feature (default: a GPU if there is one)."""
    max_size: Annotated[int, Unit("PX")] = 640
    """Longer side of stored photographs."""
    max_pairs: Annotated[int, Unit("N")] = 400
    """Maximum number of pairs of a model, drawn at random."""
    seed: int = 0
    """Seed of that draw."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """Differences of two views of one place, and the choice of their points."""

    size: Annotated[int, Unit("PX")] = 320
    """Side of a view, a multiple of 16."""
    points: Annotated[int, Unit("N")] = 384
    """Maximum number of corresponding points of a pair."""
    cell: Annotated[int, Unit("PX")] = 8
    """Points are the pixels with the highest curvature in cells of this side."""
    rotation: Annotated[float, Unit("DEG")] = 45.0
    """Largest rotation in the image plane."""
    upright: Annotated[float, Unit("SHARE")] = 0.5
    """Share of pairs with nearly upright views (standard deviation of 8 degrees) of nearly one scale."""
    margin: Annotated[int, Unit("PX")] = 8
    """Minimum distance of points to the borders of both views."""


@dataclass(frozen=True, kw_only=True)
class MapLossOptions:
    """Negatives of points: other points and cells of a map."""

    inverse_temperature: Annotated[float, Unit("X")] = 30.0
    """Cosines are multiplied by this before the softmax over points and cells."""
    safe_radius: Annotated[float, Unit("PX")] = 7.0
    """Points and cells nearer to the true position than this are not negatives."""
    triplet_margin: Annotated[float, Unit("X")] = 1.0
    """Margin of the triplet loss."""


@dataclass(frozen=True, kw_only=True)
class DescriptorLossOptions:
    """Network, data, and weights of the losses."""

    head: bool = False
    """Train the keypoint head over the frozen description network that it starts from: places that match rightly rank
    higher."""
    network: DescriptorNetwork | None = None
    """Network to train (default: that of the initial weights)."""
    init: Annotated[str | None, Unit("NAME|FILE")] = None
    """Weights to start from."""
    teacher: Annotated[str | None, Unit("NAME|FILE")] = None
    """DISK weights (disk-depth, or a file) whose descriptors are learned."""
    teacher_stride: Annotated[int, Unit("PX")] = 4
    """Spacing of the teacher's descriptors; 2 takes four times the memory."""
    held_out: Annotated[tuple[str, ...], Unit("GROUP")] = ()
    """Groups (folders, scenes) to validate on (default: a tenth, by a hash of the names)."""
    steps: int = 5000
    """Number of optimiser steps."""
    single: Annotated[int, Unit("N")] = 12
    """Pairs of views of one photograph in a step."""
    fixed: Annotated[int, Unit("N")] = 4
    """Pairs of photographs of a fixed camera in a step."""
    model: Annotated[int, Unit("N")] = 8
    """Pairs of photographs of an SfM model in a step."""
    learning_rate: Annotated[float, Unit("X")] = 1e-3
    """Peak rate of AdamW; warmed up over the first 3 % of the steps, then half a cosine down to zero."""
    weight_decay: Annotated[float, Unit("X")] = 1e-4
    """Weight decay of AdamW."""
    relight: Annotated[float, Flag(("--relight", "--light")), Unit("X")] = 1.0
    """Strength of illumination changes of each view, 0 to 1."""
    softmax: Annotated[float, Unit("X")] = 1.0
    """Weight of the cross entropy over all points and the map."""
    triplet: Annotated[float, Unit("X")] = 0.5
    """Weight of the triplet loss with the hardest other point or cell."""
    poses: Annotated[float, Unit("X")] = 0.0
    """Weight of PoSFeat's epipolar loss (eqs. 6 and 7) on pairs of models."""
    pose_contrast: Annotated[float, Unit("X")] = 0.0
    """Weight of a loss from poses alone with all points off the epipolar line as negatives."""
    second_order: Annotated[float, Unit("X")] = 0.0
    """Weight of SOSNet's second-order similarity (k = 8) among at most 512 points."""
    direct: Annotated[float, Unit("X")] = 2.0
    """Weight of 1 - cosine to the teacher."""
    teacher_softmax: Annotated[float, Unit("X")] = 0.5
    """Weight of the cross entropy among the teacher's descriptors."""
    tracks: bool = True
    """Do not use the points of models as correspondences (poses may still be used)."""
    frozen_statistics: bool = False
    """Keep the statistics of batch normalisation."""


@dataclass(frozen=True, kw_only=True)
class DescriptorTrainingOptions(MapLossOptions, ViewOptions, DescriptorLossOptions):
    """How dense descriptors are trained; see :func:`posfeat_hloc.training.descriptor_pipeline.train_descriptors`."""

    precision: Precision = "auto"
    """Precision of the convolutions."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, ..."""
    validate_every: Annotated[int, Unit("STEPS")] = 500
    """Steps between validations, each with a checkpoint."""
    seed: int = 0
    """Seed of weights and batches."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.steps < 1 or self.single + self.fixed + self.model < 1 or self.learning_rate <= 0:
            raise ConfigurationError("steps, pairs of a step and the learning rate must be greater than zero")
        if self.size % 16 or self.size < 64:
            raise ConfigurationError(Option("size", self.size), ": views need a multiple of 16, at least 64 pixels")
