"""Distillation: what the student is asked for, and that it comes to give it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc.training.distillation import Teacher, TeacherOutputs, distillation_loss
from posfeat_hloc.weights.loading import load_posfeat
from tests.training.scenes import network, teacher


def answers(seed: int, grid_alignment: str, batch: int = 2) -> TeacherOutputs:
    """Random answers for images of 48 x 32 pixels."""
    generator = torch.Generator().manual_seed(seed)
    local_map = torch.randn(batch, 8, 8, 12, generator=generator)
    return TeacherOutputs(local_map, torch.rand(batch, 32, 48, generator=generator), grid_alignment)


@pytest.mark.parametrize("grid_alignment", ["published", "consistent"])
def test_who_answers_alike_has_no_loss(grid_alignment: str) -> None:
    teacher = answers(0, grid_alignment)
    descriptors, scores = distillation_loss(
        TeacherOutputs(3 * teacher.local_map, teacher.scores, grid_alignment), teacher
    )
    assert float(descriptors) == pytest.approx(0, abs=1e-5)  # lengths of descriptors do not matter
    assert float(scores) == 0


def test_the_opposite_costs_two() -> None:
    teacher = answers(0, "consistent")
    descriptors, _ = distillation_loss(TeacherOutputs(-teacher.local_map, teacher.scores, "consistent"), teacher)
    assert float(descriptors) == pytest.approx(2)


def test_scores_may_be_of_the_first_images_only() -> None:
    student, told = answers(1, "consistent", 3), answers(0, "consistent", 3)
    few = (TeacherOutputs(a.local_map, a.scores[:1], "consistent") for a in (student, told))
    _, scores = distillation_loss(*few)
    assert float(scores) == pytest.approx(float(((student.scores[0] - told.scores[0]) ** 2).mean()))


def test_cells_of_two_conventions_are_compared_at_the_same_pixel() -> None:
    """The published cell i lies at pixel (i + 1/2)(W - 1)/w, the consistent one at 4i: bilinear reading by hand."""
    student, teacher = answers(1, "published", 1), answers(0, "consistent", 1)
    found, _ = distillation_loss(student, teacher)
    told = teacher.local_map[0].numpy()
    cosines = []
    for i in range(8):
        for j in range(12):
            y, x = (i + 0.5) * 31 / 8 / 4, (j + 0.5) * 47 / 12 / 4
            top, left = int(y), int(x)
            below, right = min(top + 1, 7), min(left + 1, 11)
            v, u = y - top, x - left
            upper = told[:, top, left] * (1 - u) + (told[:, top, right] if right > left else 0) * u
            lower = told[:, below, left] * (1 - u) + (told[:, below, right] if right > left else 0) * u
            read = upper * (1 - v) + (lower if below > top else 0) * v
            own = student.local_map[0, :, i, j].numpy()
            cosines.append(read @ own / np.linalg.norm(read) / np.linalg.norm(own))
    assert float(found) == pytest.approx(1 - np.mean(cosines), abs=1e-5)


def test_a_teacher_does_not_change() -> None:
    teacher = Teacher(load_posfeat("posfeat-small"))
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    said = teacher.train()(torch.rand(2, 3, 32, 48), scored=1)
    assert (len(said.local_map), len(said.scores)) == (2, 1)
    assert not said.local_map.requires_grad
    assert not said.scores.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


def test_a_student_comes_nearer_to_its_teacher() -> None:
    told, student = teacher(), network(2, "small").train()
    images = F.interpolate(torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)), scale_factor=8)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        maps = student.backbone(images)
        scores = student.localheader(maps.local_map.detach(), maps.local_map_small.detach(), images)
        descriptors, detection = distillation_loss(
            TeacherOutputs(maps.local_map, scores, "consistent"), told(images, 2)
        )
        optimizer.zero_grad()
        (descriptors + detection).backward()
        optimizer.step()
        losses.append([float(descriptors.detach()), float(detection.detach())])
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < 0.8 * losses[0][1]
