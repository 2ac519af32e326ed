"""Distillation: one PoSFeat network learns to answer as another, trained one does.

A teacher says at every cell what to answer, where poses or rendered pairs say so at a few hundred points. So a network
of another form, the paper's over a large backbone or a lighter one, learns from images alone. Descriptors and scores
are regressed together, as in HF-Net (Sarlin et al., 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posfeat_hloc.detection.sampling import cells_to_pixels
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training.correspondence import describe
from posfeat_hloc.weights.loading import LoadedPoSFeat


@dataclass(frozen=True)
class TeacherOutputs:
    """What a network says about a batch of images.

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
