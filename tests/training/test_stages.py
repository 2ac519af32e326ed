"""The stages: which parameters they train, and that their losses are those of the equations."""

from dataclasses import replace

import pytest
import torch

from posfeat_hloc.networks.small import SmallUNet
from posfeat_hloc.training.correspondence import describe
from posfeat_hloc.training.description_loss import description_loss
from posfeat_hloc.training.detection_loss import detection_loss, select_keypoints
from posfeat_hloc.training.line_to_window import LineToWindowOptions, line_to_window, query_points
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, batches
from posfeat_hloc.training.stages import STAGES, LossOptions, StageLoss
from tests.training.scenes import SIZE, mix, network, photographs, teacher

CPU = torch.device("cpu")
HEIGHT_WIDTH = (SIZE[1], SIZE[0])
WIDE = LossOptions(line_to_window=LineToWindowOptions(window=0.3))  # the maps are small
GENERATOR = 11


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    dataset = PosedDataset(mix(photographs(tmp_path_factory.mktemp("photographs"))), points=60)
    return next(batches(dataset, 0, 1, 2)).to(CPU)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(GENERATOR)


def gradients(stage: str, batch: Batch, options: LossOptions = WIDE, trunk: str = "resnet18") -> dict[str, bool]:
    """Which parts of the network get a gradient that is not zero."""
    posfeat = network(trunk=trunk)
    loss, _ = StageLoss(posfeat, stage, options, teacher()).train()(batch, generator())
    loss.backward()
    parts = {
        "trunk": posfeat.backbone.level8 if isinstance(posfeat.backbone, SmallUNet) else posfeat.backbone.layer2,
        "coarse": posfeat.backbone.conv_coarse,
        "fine": posfeat.backbone.conv_fine,
        "head": posfeat.localheader,
    }
    return {
        name: any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())
        for name, part in parts.items()
    }


@pytest.mark.parametrize("trunk", ["resnet18", "small"])
@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("warmup", {"trunk", "fine"}),
        ("describe", {"trunk", "fine"}),
        ("detect", {"head"}),
        ("joint", {"trunk", "fine", "head"}),
        ("distill", {"trunk", "fine", "head"}),
    ],
)
def test_each_stage_trains_its_own_parts(stage: str, trained: set[str], trunk: str, batch: Batch) -> None:
    assert {name for name, moved in gradients(stage, batch, trunk=trunk).items() if moved} == trained


@pytest.mark.parametrize("trunk", ["resnet18", "small"])
def test_the_coarse_search_trains_the_coarse_map(trunk: str, batch: Batch) -> None:
    coarse = replace(WIDE, search="coarse-to-fine", coarse_to_fine=replace(WIDE.coarse_to_fine, window=0.3))
    assert gradients("describe", batch, coarse, trunk)["coarse"]


@pytest.mark.parametrize("trunk", ["resnet18", "small"])
def test_all_open_parameters_get_a_gradient(trunk: str, batch: Batch) -> None:
    """Training on several processes waits for the gradient of every open parameter."""
    for stage in STAGES:
        posfeat = network(trunk=trunk)
        loss, _ = StageLoss(posfeat, stage, WIDE, teacher()).train()(batch, generator())
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in posfeat.parameters()), stage


def test_the_frozen_network_does_not_drift(batch: Batch) -> None:
    """Not even by the running means of its batch normalisation."""
    posfeat = network()
    before = {name: tensor.clone() for name, tensor in posfeat.backbone.state_dict().items()}
    objective = StageLoss(posfeat, "detect", WIDE).train()
    objective(batch, generator())
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


def test_the_same_generator_gives_the_same_loss(batch: Batch) -> None:
    losses = [float(StageLoss(network(), "describe", WIDE).train()(batch, generator())[0].detach()) for _ in range(2)]
    assert losses[0] == losses[1]
