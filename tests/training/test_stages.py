"""The stages: which parameters they train, and that their losses are those of the equations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.normalization import normalize_imagenet
from posfeat_hloc.networks.small import SmallUNet
from posfeat_hloc.training.correspondence import DescriptionLoss, describe, description_loss, epipolar_loss
from posfeat_hloc.training.correspondence_search import LineToWindowOptions, line_to_window, query_points
from posfeat_hloc.training.detection_loss import detection_loss, select_keypoints
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, batches
from posfeat_hloc.training.stages import STAGES, LossOptions, StageLoss, Teacher, TeacherOutputs, distillation_loss
from posfeat_hloc.weights.loading import load_posfeat
from tests.training.scenes import SIZE, mix, network, photographs, teacher

CPU = torch.device("cpu")
HEIGHT_WIDTH = (SIZE[1], SIZE[0])
WIDE = LossOptions(line_to_window=LineToWindowOptions(window=0.3))  # the maps are small
GENERATOR = 11


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    dataset = PosedDataset(mix(photographs(tmp_path_factory.mktemp("photographs"))), points=60)
    return next(batches(dataset, 0, 1, 2)).to(CPU)


@pytest.fixture(scope="module")
def pair(batch: Batch) -> Batch:
    """Half of it, where the sides of one pair are enough."""
    return replace(batch, **{name: value[:1] for name, value in vars(batch).items()})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(GENERATOR)


def gradients(
    stage: str, batch: Batch, options: LossOptions = WIDE, backbone_name: str = "resnet18"
) -> dict[str, bool]:
    """Which parts of the network get a gradient that is not zero."""
    posfeat = network(backbone_name=backbone_name)
    loss, _ = StageLoss(posfeat, stage, options, teacher()).train()(batch, generator())
    loss.backward()
    parts = {
        "backbone": posfeat.backbone.level8 if isinstance(posfeat.backbone, SmallUNet) else posfeat.backbone.layer2,
        "coarse": posfeat.backbone.conv_coarse,
        "fine": posfeat.backbone.conv_fine,
        "head": posfeat.localheader,
    }
    return {
        name: any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())
        for name, part in parts.items()
    }


@pytest.mark.parametrize("backbone_name", ["resnet18", "small"])
@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("warmup", {"backbone", "fine"}),
        ("describe", {"backbone", "fine"}),
        ("detect", {"head"}),
        ("joint", {"backbone", "fine", "head"}),
        ("distill", {"backbone", "fine", "head"}),
    ],
)
def test_each_stage_trains_its_own_parts(stage: str, trained: set[str], backbone_name: str, pair: Batch) -> None:
    assert {name for name, moved in gradients(stage, pair, backbone_name=backbone_name).items() if moved} == trained


@pytest.mark.parametrize("backbone_name", ["resnet18", "small"])
def test_the_coarse_search_trains_the_coarse_map(backbone_name: str, pair: Batch) -> None:
    coarse = replace(WIDE, search="coarse-to-fine", coarse_to_fine=replace(WIDE.coarse_to_fine, window=0.3))
    assert gradients("describe", pair, coarse, backbone_name)["coarse"]


@pytest.mark.parametrize("backbone_name", ["resnet18", "small"])
def test_all_open_parameters_get_a_gradient(backbone_name: str, pair: Batch) -> None:
    """Training on several processes waits for the gradient of every open parameter."""
    for stage in STAGES:
        posfeat = network(backbone_name=backbone_name)
        loss, _ = StageLoss(posfeat, stage, WIDE, teacher()).train()(pair, generator())
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in posfeat.parameters()), stage


def test_the_frozen_network_does_not_drift(pair: Batch) -> None:
    """Not even by the running means of its batch normalisation."""
    posfeat = network()
    before = {name: tensor.clone() for name, tensor in posfeat.backbone.state_dict().items()}
    objective = StageLoss(posfeat, "detect", WIDE).train()
    objective(pair, generator())
    assert all(torch.equal(before[name], tensor) for name, tensor in posfeat.backbone.state_dict().items())


def test_the_description_loss_is_that_of_both_directions(batch: Batch) -> None:
    posfeat = network()
    objective = StageLoss(posfeat, "describe", WIDE).eval()
    with torch.no_grad():
        total, report = objective(batch, generator())
        local0, local1 = (posfeat.backbone(images).local_map for images in (batch.images0, batch.images1))
        g, F, options = generator(), batch.fundamental, WIDE.line_to_window
        points = [query_points(2, HEIGHT_WIDTH, g) for _ in range(2)]
        forth = line_to_window(points[0], local0, local1, F, HEIGHT_WIDTH, options, g)
        back = line_to_window(points[1], local1, local0, F.mT, HEIGHT_WIDTH, options, g)
        expected = description_loss(points[0], points[1], forth, back, F, HEIGHT_WIDTH)
    torch.testing.assert_close(total, expected.total, rtol=1e-3, atol=1e-3)
    assert report["epipolar"] == pytest.approx(float(total))
    assert 0 < report["used"] <= 1


def test_one_direction_is_the_first_of_both(batch: Batch) -> None:
    posfeat = network()
    options = replace(WIDE, directions="one")
    with torch.no_grad():
        total, report = StageLoss(posfeat, "describe", options).eval()(batch, generator())
        local0, local1 = (posfeat.backbone(images).local_map for images in (batch.images0, batch.images1))
        g, F = generator(), batch.fundamental
        points, _ = (query_points(2, HEIGHT_WIDTH, g) for _ in range(2))
        found = line_to_window(points, local0, local1, F, HEIGHT_WIDTH, WIDE.line_to_window, g)
        expected = epipolar_loss(points, found, F, HEIGHT_WIDTH)
    torch.testing.assert_close(total, expected.total, rtol=1e-3, atol=1e-3)
    assert report["used"] == pytest.approx(float(expected.used))
    coarse = replace(options, search="coarse-to-fine", coarse_to_fine=replace(WIDE.coarse_to_fine, window=0.3))
    with torch.no_grad():
        one, both = (
            float(StageLoss(posfeat, "describe", o).eval()(batch, generator())[0])
            for o in (coarse, replace(coarse, directions="both"))
        )
    assert 0 < one < both


def test_moments_over_the_pair_or_over_one_image_at_a_time(batch: Batch) -> None:
    """Running means of the first layer after one step of training from 0 with a momentum of 0.1."""
    posfeat = network()
    layer = posfeat.backbone.firstbn
    with torch.no_grad():
        inputs = [posfeat.backbone.firstconv(normalize_imagenet(x)) for x in (batch.images0, batch.images1)]
    means = [x.mean(dim=(0, 2, 3)) for x in inputs]
    expected = {"pair": (means[0] + means[1]) / 20, "image": 0.09 * means[0] + 0.1 * means[1]}
    for normalization, running in expected.items():
        posfeat = network()
        layer = posfeat.backbone.firstbn
        assert not layer.running_mean.any()
        options = replace(WIDE, normalization=normalization)
        StageLoss(posfeat, "describe", options).train()(batch, generator())
        torch.testing.assert_close(layer.running_mean, running, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{"directions": "none"}, {"normalization": "batch"}])
def test_unknown_forms_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        StageLoss(network(), "describe", replace(WIDE, **options))


def test_sides_of_the_cells(batch: Batch) -> None:
    """With cells of 4 pixels there are four times as many proposals."""
    kept = {}
    for cell in (8, 4):
        options = replace(WIDE, keypoint_cell=cell)
        with torch.no_grad():
            _, report = StageLoss(network(), "detect", options).train()(batch, generator())
        kept[cell] = report["keypoints"] / (SIZE[0] // cell * (SIZE[1] // cell))
    assert all(0.5 < share < 1 for share in kept.values())
    few = replace(WIDE, query_cell=SIZE[1])  # one query point an image
    with torch.no_grad():
        _, report = StageLoss(network(), "describe", few).train()(batch, generator())
    assert report["used"] * 2 * 2 == pytest.approx(round(report["used"] * 2 * 2))


def test_the_detection_loss_is_that_of_the_frozen_descriptors(batch: Batch) -> None:
    posfeat = network()
    objective = StageLoss(posfeat, "detect", WIDE).train()
    with torch.no_grad():
        total, report = objective(batch, generator())
        g, selections, descriptors = generator(), [], []
        posfeat.eval()
        for images in (batch.images0, batch.images1):
            maps = posfeat.backbone(images)
            heat = posfeat.localheader(maps.local_map, maps.local_map_small, images)[:, None]
            selections.append(select_keypoints(heat, g))
            descriptors.append(describe(maps.local_map, selections[-1].points, HEIGHT_WIDTH, "published"))
        expected = detection_loss(*selections, *descriptors, batch.fundamental, WIDE.detection)
    torch.testing.assert_close(total, expected.total, rtol=1e-3, atol=1e-5)
    assert report["keypoints"] == pytest.approx(float(expected.keypoints))


def test_the_joint_loss_is_the_sum(batch: Batch) -> None:
    objective = StageLoss(network(), "joint", WIDE).train()
    total, report = objective(batch, generator())
    assert float(total.detach()) == pytest.approx(report["epipolar"] + report["detection"], rel=1e-5)


def test_joint_keypoints_teach_the_descriptors(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it the paper's Model 2: the gradient of the detection loss alone reaches the description network."""
    posfeat = network()
    objective = StageLoss(posfeat, "joint", WIDE).train()
    nothing = DescriptionLoss(torch.zeros(()), torch.zeros(()))
    monkeypatch.setattr(objective, "_describe", lambda *args: nothing)
    total, report = objective(batch, generator())
    assert report["epipolar"] == 0
    total.backward()
    for part in (posfeat.backbone.conv_fine, posfeat.backbone.layer1, posfeat.backbone.firstconv):
        assert any(bool(p.grad.abs().sum() > 0) for p in part.parameters() if p.grad is not None)


def test_the_same_generator_gives_the_same_loss(batch: Batch) -> None:
    losses = [float(StageLoss(network(), "describe", WIDE).train()(batch, generator())[0].detach()) for _ in range(2)]
    assert losses[0] == losses[1]


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
