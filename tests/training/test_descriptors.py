import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.l2net import L2Net, read_map
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.training.dense_networks import L2NetMaps, PoSFeatMaps
from posfeat_hloc.training.descriptors import DescriptorTrainer, TeacherMaps, learning_rate, recorded
from posfeat_hloc.training.loop import RunFolder
from posfeat_hloc.training.options import DescriptorTrainingOptions
from posfeat_hloc.training.view_pack import Pack, PackedPair
from posfeat_hloc.training.warped_views import Shelf
from tests.training.test_warped_views import _photograph

OPTIONS = DescriptorTrainingOptions(
    steps=2, single=1, fixed=1, model=1, validate_every=1, poses=0.1, size=96, points=16, margin=4
)


@pytest.fixture(autouse=True)
def short_validations(monkeypatch):
    monkeypatch.setattr("posfeat_hloc.training.descriptors.HELD_OUT_PAIRS", 2)
    monkeypatch.setattr("posfeat_hloc.training.descriptors.HELD_OUT_BATCHES", 1)


def _pack() -> Pack:
    xy = np.random.default_rng(0).uniform(20, 140, (200, 2)).astype(np.float32)
    points = np.c_[xy, xy + np.array([3, 1])].astype(np.float32)
    sideways = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1, -1]])  # y1 = y0 + 1
    pairs = [
        PackedPair(0, 1, np.zeros((0, 4), np.float32), np.eye(3)),
        PackedPair(2, 3, points, None, sideways),
    ]
    return Pack([_photograph(k) for k in range(4)], list("abcd"), ["f", "f", "m", "m"], pairs)


def _trainer(folder, options=OPTIONS, teacher=None, network=None):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shelf = Shelf(_pack(), torch.device("cpu"))
    network = network or PoSFeatMaps(PoSFeat("small"), "consistent")
    return DescriptorTrainer(options, (), network, shelf, shelf, folder, teacher)


def test_a_resumed_run_gives_what_an_undisturbed_one_gives(tmp_path):
    whole = _trainer(tmp_path / "whole")
    whole.run(progress=False)
    first = _trainer(tmp_path / "parts")
    first.train_step()
    first.step = 1
    first.save()
    second = _trainer(tmp_path / "parts")
    assert second.step == 1
    second.run(progress=False)
    for a, b in zip(
        whole.network.network.state_dict().values(), second.network.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_validations_log_save_and_export(tmp_path):
    trainer = _trainer(tmp_path, replace(OPTIONS, steps=5, validate_every=2))
    exported = []
    trainer.exported = lambda metrics: exported.append((trainer.step, sorted(metrics)))
    trainer.run(progress=False)
    kinds = ["right_fixed", "right_model", "right_single"]
    assert exported == [(0, kinds), (2, kinds), (4, kinds), (5, kinds)]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [0, 2, 4, 5]
    assert all(0 <= record["right_single"] <= 1 and np.isfinite(record.get("loss", 0)) for record in log)
    assert _trainer(tmp_path, replace(OPTIONS, steps=5, validate_every=2)).step == 5


def test_steps_on_one_batch_find_more_points(tmp_path):
    options = replace(OPTIONS, steps=60, relight=0.0, poses=0.0, learning_rate=2e-3)
    trainer = _trainer(tmp_path, options)
    plan = trainer.shelf.plan(np.random.default_rng(0), (2, 0, 0), options)
    batch = trainer.shelf.render(plan, torch.Generator().manual_seed(0), options)
    trainer.network.network.train()
    values = []
    for _ in range(25):
        losses = trainer.losses(batch, torch.Generator().manual_seed(0))
        trainer.optimizer.zero_grad()
        losses["loss"].backward()
        trainer.optimizer.step()
        values.append(float(losses["softmax"].detach()))
    assert values[-1] < 0.6 * values[0]


def test_points_of_models_count_with_tracks_only(tmp_path):
    trainer = _trainer(tmp_path, replace(OPTIONS, single=0, fixed=0, model=2, poses=0.0, tracks=False, triplet=0.0))
    plan = trainer.shelf.plan(np.random.default_rng(0), (0, 0, 2), OPTIONS)
    batch = trainer.shelf.render(plan, torch.Generator().manual_seed(0), OPTIONS)
    assert float(trainer.losses(batch, torch.Generator())["loss"].detach()) == 0
    trainer.options = replace(trainer.options, tracks=True)
    assert float(trainer.losses(batch, torch.Generator())["loss"].detach()) > 0
    trainer.options = replace(trainer.options, tracks=False, poses=1.0)
    assert float(trainer.losses(batch, torch.Generator().manual_seed(0))["epipolar"].detach()) > 0


def test_a_teacher_is_read_between_its_cells():
    maps = torch.zeros((2, 3, 4, 2), dtype=torch.float16)
    maps[..., 0] = torch.arange(4.0) / 3  # along x
    maps[..., 1] = 1.0
    maps[1] = -maps[1]
    teacher = TeacherMaps(maps, stride=4)
    pixels = torch.tensor([[[6.0, 5.0], [400.0, -3.0]], [[4.0, 0.0], [0.0, 8.0]]])
    found = teacher.read(torch.tensor([0, 1]), pixels)
    raw = torch.tensor([[[0.5, 1.0], [1.0, 1.0]], [[-1 / 3, -1.0], [0.0, -1.0]]])
    torch.testing.assert_close(found, torch.nn.functional.normalize(raw, dim=2), rtol=1e-3, atol=1e-3)


def test_a_teacher_pulls_descriptors_towards_its_own(tmp_path):
    maps = torch.nn.functional.normalize(torch.randn((4, 50, 50, 128)), dim=3).half()
    options = replace(OPTIONS, softmax=0.0, triplet=0.0, poses=0.0, steps=30, relight=0.0, teacher_softmax=0.0)
    trainer = _trainer(tmp_path, options, TeacherMaps(maps, 4))
    plan = trainer.shelf.plan(np.random.default_rng(0), (2, 0, 0), options)
    batch = trainer.shelf.render(plan, torch.Generator().manual_seed(0), options)
    values = []
    for _ in range(12):
        losses = trainer.losses(batch, torch.Generator())
        trainer.optimizer.zero_grad()
        losses["loss"].backward()
        trainer.optimizer.step()
        values.append(float(losses["direct"]))
    assert values[-1] < values[0] - 0.1


def test_patch_networks_are_read_as_d2d_reads_them():
    torch.manual_seed(0)
    net = L2NetMaps(L2Net("hardnet").eval())
    images = torch.rand((2, 3, 64, 64))
    dense = net.maps(images)
    pixels = torch.rand((2, 5, 2)) * 30 + 16
    torch.testing.assert_close(net.read(dense, pixels, 64).flatten(0, 1), read_map(dense, list(pixels)))
    cells = net.cells(dense, 64)
    assert cells[0].tolist() == [14, 14]
    at_cells = net.read(dense, cells[None].expand(2, -1, -1), 64)
    torch.testing.assert_close(at_cells, torch.nn.functional.normalize(dense.flatten(2), dim=1).transpose(1, 2))


def test_the_rate_rises_and_falls():
    options = replace(OPTIONS, steps=1000, learning_rate=1.0)
    assert learning_rate(options, 0) == pytest.approx(1 / 30)
    assert learning_rate(options, 29) == pytest.approx(1.0)
    assert learning_rate(options, 515) == pytest.approx(0.5, abs=0.01)
    assert learning_rate(options, 999) < 1e-4


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"size": 100}])
def test_values_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        replace(OPTIONS, **wrong)


def test_a_run_of_before_is_resumed(tmp_path):
    """Its checkpoint holds views and losses by themselves, and some options by other names."""
    data = ("pack", "start")
    old = recorded(OPTIONS, data)
    assert old["views"] == {"size": 96, "rotation": 45.0, "upright": 0.5, "points": 16, "cell": 8, "margin": 4}
    assert old["loss"] == {"inverse_temperature": 30.0, "safe_radius": 7.0, "margin": 1.0}
    assert len(old) == 22
    del old["pose_contrast"]
    old["light"] = old.pop("relight")
    run = RunFolder(tmp_path, old)
    run.resume()
    run.save(1)
    state = RunFolder(tmp_path, recorded(OPTIONS, data)).resume()
    assert state is not None
    assert state["step"] == 1
    with pytest.raises(ConfigurationError, match=r"other options \(views\)"):
        RunFolder(tmp_path, recorded(replace(OPTIONS, cell=16), data)).resume()
