"""Options of training descriptors and of collecting photographs for it. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc.runtime.options import Unit, check_options

Models = Annotated[tuple[tuple[str, str], ...], Unit("MODEL IMAGES")]
Folders = Annotated[tuple[Path, ...], Unit("DIR")]
Precision = Literal["auto", "bf16", "fp32"]
DescriptorNetwork = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "small", "hardnet", "sosnet"
]


@dataclass(frozen=True, kw_only=True)
class PatchTrainingOptions:
    """How patch descriptors are trained; see :func:`posfeat_hloc.training.patch_pipeline.train_patches`."""

    photos: Folders = ()
    """Folders of single photographs."""
    model: Models = ()
    """A COLMAP model and the folder of its images; may be repeated."""
    architecture: Literal["hardnet", "sosnet"] = "hardnet"
    """Triplet loss, or triplet loss and second-order similarity."""
    form: Literal["dense", "patches"] = "dense"
    """Train the dense map that D2D reads, or 32x32 patches."""
    init: Annotated[str | None, Unit("NAME|FILE")] = None
    """Start from these weights, of either architecture."""
    steps: int = 2000
    """Optimiser steps."""
    pairs: int = 8
    """View pairs in a batch."""
    points: int = 128
    """Points read from a pair."""
    learning_rate: float = 2e-3
    """Peak rate of Adam."""
    window: int = 33
    """Local normalisation window in pixels, odd."""
    synthetic_share: float = 0.6
    """Share of batches from single photographs when there are models too."""
    light: float = 1.0
    """Strength of light changes, 0 to 1."""
    validation_pairs: int = 48
    """Held-out view pairs."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What is packed; see :func:`posfeat_hloc.training.packing.pack_views`."""

    photos: Folders = ()
    """Folders of single photographs."""
    model: Models = ()
    """A COLMAP model and the folder of its images; may be repeated."""
    fixed: Folders = ()
    """Folders of photographs of one fixed camera each."""
    sessions: Folders = ()
    """Folders of photographs of nearly one view each."""
    feature: str = "posfeat-small"
    """That aligns fixed cameras and sessions."""
    weights: Annotated[str | None, Unit("NAME|FILE")] = None
    """Of that feature."""
    device: str = "auto"
    """Of that feature (default: a GPU if there is one)."""
    max_size: Annotated[int, Unit("PX")] = 640
    """Longer side of stored photographs."""
    max_pairs: Annotated[int, Unit("N")] = 400
    """Of one model, drawn at random."""
    seed: int = 0
    """Of that draw."""


@dataclass(frozen=True, kw_only=True)
class DescriptorTrainingOptions:
    """How dense descriptors are trained; see :func:`posfeat_hloc.training.descriptor_pipeline.train_descriptors`."""

    head: bool = False
    """Train the keypoint head over the frozen description network that it starts from: places that match rightly rank
    higher."""
    network: DescriptorNetwork | None = None
    """What is trained (default: what it starts from)."""
    init: Annotated[str | None, Unit("NAME|FILE")] = None
    """Weights to start from."""
    teacher: Annotated[str | None, Unit("NAME|FILE")] = None
    """DISK weights (disk-depth, or a file) whose descriptors are learned."""
    teacher_stride: Annotated[int, Unit("PX")] = 4
    """Spacing of the teacher's descriptors; 2 takes four times the memory."""
    held_out: Annotated[tuple[str, ...], Unit("GROUP")] = ()
    """Groups (folders, scenes) to validate on (default: a tenth, by a hash of the names)."""
    steps: int = 5000
    """Of the optimiser."""
    single: Annotated[int, Unit("N")] = 12
    """Pairs of views of one photograph in a step."""
    fixed: Annotated[int, Unit("N")] = 4
    """Pairs of photographs of a fixed camera in a step."""
    model: Annotated[int, Unit("N")] = 8
    """Pairs of photographs of an SfM model in a step."""
    learning_rate: Annotated[float, Unit("X")] = 1e-3
    """Peak rate of AdamW."""
    weight_decay: Annotated[float, Unit("X")] = 1e-4
    """Of AdamW."""
    light: Annotated[float, Unit("X")] = 1.0
    """Strength of the changes of light, 0 to 1."""
    softmax: Annotated[float, Unit("X")] = 1.0
    """Weight of the cross entropy over all points and the map."""
    triplet: Annotated[float, Unit("X")] = 0.5
    """Weight of the triplet loss with the hardest other point or cell."""
    poses: Annotated[float, Unit("X")] = 0.0
    """Weight of PoSFeat's epipolar loss on pairs of models."""
    pose_contrast: Annotated[float, Unit("X")] = 0.0
    """Weight of a loss from poses alone that has everything off the epipolar line as negatives."""
    second_order: Annotated[float, Unit("X")] = 0.0
    """Weight of SOSNet's second-order similarity."""
    direct: Annotated[float, Unit("X")] = 2.0
    """Weight of 1 - cosine to the teacher."""
    teacher_softmax: Annotated[float, Unit("X")] = 0.5
    """Weight of the cross entropy among the teacher's descriptors."""
    tracks: bool = True
    """Do not use the points of models as correspondences (poses may still be used)."""
    frozen_statistics: bool = False
    """Keep the statistics of batch normalisation."""
    size: Annotated[int, Unit("PX")] = 320
    """Side of a view."""
    points: Annotated[int, Unit("N")] = 384
    """Points of a pair."""
    cell: Annotated[int, Unit("PX")] = 8
    """A point is the most curved pixel of a cell of this side."""
    rotation: Annotated[float, Unit("DEG")] = 45.0
    """Largest rotation in the image plane."""
    upright: Annotated[float, Unit("SHARE")] = 0.5
    """Of pairs that stay nearly upright."""
    inverse_temperature: Annotated[float, Unit("X")] = 30.0
    """Of the softmax over points and cells."""
    safe_radius: Annotated[float, Unit("PX")] = 7.0
    """Cells nearer to the true place do not compete."""
    precision: Precision = "auto"
    """Of the convolutions."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, ..."""
    validate_every: Annotated[int, Unit("STEPS")] = 500
    """And write a checkpoint."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        check_options(self)
