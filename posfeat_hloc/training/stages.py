"""Distillation: one PoSFeat network learns to answer as another, trained one does.

A teacher says at every cell what to answer, where poses or rendered pairs say so at a few hundred points. So a network
of another form, the paper's over a large backbone or a lighter one, learns from images alone. Descriptors and scores
are regressed together, as in HF-Net (Sarlin et al., 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor, nn

from posfeat_hloc.detection.sampling import cells_to_pixels
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.resunet import FeatureMaps
from posfeat_hloc.training.correspondence import (
    Correspondence,
    DescriptionLoss,
    describe,
    description_loss,
    epipolar_loss,
)
from posfeat_hloc.training.correspondence_search import (
    CoarseToFineOptions,
    LineToWindowOptions,
    coarse_to_fine,
    line_to_window,
    query_points,
)
from posfeat_hloc.training.detection_loss import DetectionOptions, detection_loss, select_keypoints
from posfeat_hloc.training.losses import ContrastiveOptions, contrastive_loss
from posfeat_hloc.training.options import Stage
from posfeat_hloc.training.posed_batches import Batch
from posfeat_hloc.weights.loading import LoadedPoSFeat


@dataclass(frozen=True)
class TeacherOutputs:
    """Outputs of a network for a batch of images.

    Attributes:
        local_map: ``(B, 128, h, w)``, not normalised.
        scores: ``(S, H, W)`` of the first S images.
        grid_alignment: where the cells of the map lie.
    """

    local_map: Tensor
    scores: Tensor
    grid_alignment: str


class Teacher(nn.Module):
    """A trained PoSFeat that answers without gradients; it stays in evaluation mode.

    Args:
        loaded: both networks.
    """

    def __init__(self, loaded: LoadedPoSFeat) -> None:
        super().__init__()
        if loaded.localheader is None:
            raise ConfigurationError("a teacher needs both networks")
        self.backbone = loaded.backbone
        self.localheader = loaded.localheader
        self.grid_alignment = loaded.grid_alignment
        self.sha256 = loaded.sha256
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Nothing: running means must not follow the student's images."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, scored: int) -> TeacherOutputs:
        """Describe ``(B, 3, H, W)`` RGB images in [0, 1], with sides that are multiples of 16, and score the first."""
        maps = self.backbone(images)
        scores = self.localheader(maps.local_map[:scored], maps.local_map_small[:scored], images[:scored])
        return TeacherOutputs(maps.local_map, scores, self.grid_alignment)


def distillation_loss(student: TeacherOutputs, teacher: TeacherOutputs) -> tuple[Tensor, Tensor]:
    """How far the student's answers are from the teacher's.

    Args:
        student, teacher: of the same images; they may place their cells by different conventions.

    Returns:
        two scalars: the mean over cells of the student's map of 1 - cosine between its descriptor and the teacher's
        at that pixel, and the mean squared difference of scores.
    """
    size = (teacher.scores.shape[1], teacher.scores.shape[2])
    rows, columns = student.local_map.shape[2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([x, y], dim=-1).reshape(1, -1, 2).to(student.local_map.device, torch.float32)
    pixels = cells_to_pixels(cells, (rows, columns), size, student.grid_alignment).expand(
        len(student.local_map), -1, -1
    )
    told = describe(teacher.local_map, pixels, size, teacher.grid_alignment)
    own = describe(student.local_map, pixels, size, student.grid_alignment)
    return (1 - (own * told).sum(dim=2)).mean(), (student.scores - teacher.scores).square().mean()


STAGES = get_args(Stage)
"""``warmup``: contrastive, on rendered scenes, for a backbone without ImageNet weights. ``distill``: both networks from
a trained PoSFeat of another form. ``describe``: the description network from poses alone. ``detect``: the keypoint head
over a frozen description network. ``joint``: both at once, the paper's Model 2, for comparison."""

WITH_HEAD = ("distill", "detect", "joint")
"""Stages that train the keypoint head."""


@dataclass(frozen=True)
class LossOptions:
    """The losses of all stages; the defaults are the paper's."""

    search: str = "line-to-window"
    """``line-to-window``, or CAPS's ``coarse-to-fine`` (the paper's Model 4)."""
    max_distance: float = 0.1
    """Correspondences farther from their line do not count; a part of the shorter edge, 0.1 in the authors' code.
    ``inf`` lets all count, as in eq. 7."""
    directions: str = "both"
    """``both``: points of either image are searched in the other and both losses added, as in the authors' code;
    ``one``: those of image 0 in image 1 (eq. 7 as printed)."""
    normalization: str = "pair"
    """What batch normalisation takes its moments over in training: the images of all pairs together, or, as in the
    authors' code, of each side of the pairs by themselves, ``image``."""
    query_cell: int = 16
    """Side in pixels of a cell with one query point (g_d)."""
    keypoint_cell: int = 8
    """Side in pixels of a cell with at most one keypoint (g_k)."""
    line_to_window: LineToWindowOptions = field(default_factory=LineToWindowOptions)
    coarse_to_fine: CoarseToFineOptions = field(default_factory=CoarseToFineOptions)
    contrastive: ContrastiveOptions = field(default_factory=ContrastiveOptions)
    detection: DetectionOptions = field(default_factory=DetectionOptions)


class StageLoss(nn.Module):
    """The loss of one stage over PoSFeat's networks, with only the trained parameters open to gradients.

    Args:
        network: to be trained.
        stage: one of :data:`STAGES`.
        options: of the losses.
        teacher: of the stage ``distill``.
    """

    def __init__(self, network: PoSFeat, stage: str, options: LossOptions, teacher: Teacher | None = None) -> None:
        super().__init__()
        if stage == "distill" and teacher is None:
            raise ConfigurationError("the stage distill needs a teacher")
        for name, allowed in (("directions", ("both", "one")), ("normalization", ("pair", "image"))):
            if getattr(options, name) not in allowed:
                raise ConfigurationError(f"{name} must be {' or '.join(allowed)}, not {getattr(options, name)!r}")
        self.network = network
        self.teacher = teacher
        self.stage = stage
        self.options = options
        backbone, head = network.backbone, network.localheader
        backbone.requires_grad_(stage != "detect")
        head.requires_grad_(stage in WITH_HEAD)
        if stage in ("warmup", "distill") or options.search == "line-to-window":
            backbone.conv_coarse.requires_grad_(False)  # only the coarse search reads its map

    def train(self, mode: bool = True) -> StageLoss:
        """Training mode; the description network stays in evaluation mode while only the head is trained."""
        super().train(mode)
        if self.stage == "detect":
            self.network.backbone.eval()
        return self

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch on the network's device, and what the log shows of it.

        Args:
            batch: see :meth:`Batch.to`.
            generator: of query points, windows and proposals.
        """
        images = torch.cat([batch.images0, batch.images1])
        with torch.set_grad_enabled(self.stage != "detect" and torch.is_grad_enabled()):
            if self.options.normalization == "pair":
                maps = self.network.backbone(images)
            else:
                sides = (self.network.backbone(side) for side in (batch.images0, batch.images1))
                maps = FeatureMaps(*map(torch.cat, zip(*sides, strict=True)))
        maps0, maps1 = _halves(maps)
        size = (images.shape[2], images.shape[3])
        if self.stage == "warmup":
            loss = contrastive_loss(
                maps0.local_map, maps1.local_map, batch.points0, batch.points1, size, self.options.contrastive
            )
            return loss, {"contrastive": float(loss.detach())}
        if self.stage == "distill":
            return self._distill(maps, images)
        total = torch.zeros((), device=images.device)
        report: dict[str, float] = {}
        if self.stage in ("describe", "joint"):
            described = self._describe(maps0, maps1, batch.fundamental, size, generator)
            total = total + described.total
            report |= {"epipolar": float(described.total.detach()), "used": float(described.used)}
        if self.stage in ("detect", "joint"):
            heat = self.network.localheader(maps.local_map, maps.local_map_small, images)
            heat0, heat1 = heat[:, None].chunk(2)
            cell = self.options.keypoint_cell
            selection0, selection1 = (select_keypoints(part, generator, cell) for part in (heat0, heat1))
            grid_alignment = self.options.line_to_window.grid_alignment
            descriptors0 = describe(maps0.local_map.detach(), selection0.points, size, grid_alignment)
            descriptors1 = describe(maps1.local_map.detach(), selection1.points, size, grid_alignment)
            detected = detection_loss(
                selection0, selection1, descriptors0, descriptors1, batch.fundamental, self.options.detection
            )
            total = total + detected.total
            report |= {
                "detection": float(detected.total.detach()),
                "reward": float(detected.reward),
                "keypoints": float(detected.keypoints),
            }
        return total, report

    def _distill(self, maps: FeatureMaps, images: Tensor) -> tuple[Tensor, dict[str, float]]:
        assert self.teacher is not None
        few = max(1, len(images) // 4)  # a wide head costs more than all the rest: some images will do
        local, small = maps.local_map[:few].detach(), maps.local_map_small[:few].detach()
        scores = self.network.localheader(local, small, images[:few])
        own = TeacherOutputs(maps.local_map, scores, self.options.line_to_window.grid_alignment)
        descriptors, detection = distillation_loss(own, self.teacher(images, few))
        return descriptors + detection, {
            "descriptors": float(descriptors.detach()),
            "scores": float(detection.detach()),
        }

    def _describe(
        self,
        maps0: FeatureMaps,
        maps1: FeatureMaps,
        fundamental: Tensor,
        size: tuple[int, int],
        generator: torch.Generator,
    ) -> DescriptionLoss:
        opt = self.options
        points = [query_points(len(fundamental), size, generator, opt.query_cell).to(fundamental) for _ in range(2)]
        back = fundamental.transpose(1, 2)
        if opt.search == "line-to-window":
            local0, local1 = maps0.local_map, maps1.local_map
            found0 = line_to_window(points[0], local0, local1, fundamental, size, opt.line_to_window, generator)
            if opt.directions == "one":
                return epipolar_loss(points[0], found0, fundamental, size, opt.max_distance)
            found1 = line_to_window(points[1], local1, local0, back, size, opt.line_to_window, generator)
            return description_loss(points[0], points[1], found0, found1, fundamental, size, opt.max_distance)
        both0, both1 = (maps0.global_map, maps0.local_map), (maps1.global_map, maps1.local_map)
        forth = coarse_to_fine(points[0], both0, both1, fundamental, size, opt.coarse_to_fine)
        reverse = coarse_to_fine(points[1], both1, both0, back, size, opt.coarse_to_fine)

        def level(i: int, max_distance: float) -> DescriptionLoss:
            if opt.directions == "one":
                return epipolar_loss(points[0], forth[i], fundamental, size, max_distance)
            found: tuple[Correspondence, Correspondence] = (forth[i], reverse[i])
            return description_loss(points[0], points[1], *found, fundamental, size, max_distance)

        coarse, fine = level(0, 0.5), level(1, opt.max_distance)  # CAPS: coarse points may be half an image off
        return DescriptionLoss(coarse.total + fine.total, fine.used)


def _halves(maps: FeatureMaps) -> tuple[FeatureMaps, FeatureMaps]:
    """The maps of the first and of the second images."""
    local, small, coarse = (m.chunk(2) for m in maps)
    return FeatureMaps(local[0], small[0], coarse[0]), FeatureMaps(local[1], small[1], coarse[1])
