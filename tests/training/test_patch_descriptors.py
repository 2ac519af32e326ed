"""Training runs: what they learn from, how they are killed and resumed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.l2net import L2Net, map_to_pixels
from posfeat_hloc.training import patch_descriptors
from posfeat_hloc.training.options import PatchTrainingOptions
from posfeat_hloc.training.patch_descriptors import PatchTrainer, describe_pairs
from posfeat_hloc.training.views import RandomMix, SyntheticOptions, SyntheticSource, ViewPair
from tests.networks.test_l2net import as_tensor, calibrated_network
from tests.training.test_views import photograph

VIEWS = SyntheticOptions(size=72, min_points=8, max_points=64, light=0.5)
EASY = replace(VIEWS, rotation=4, scale=1.05, tilt=0.03, light=0)
OPTIONS = PatchTrainingOptions(steps=4, pairs=2, points=16, validate_every=2, window=17)

forms = pytest.mark.parametrize("form", ["dense", "patches"])


def source(options: SyntheticOptions = VIEWS) -> RandomMix:
    images = [photograph(200, 220, seed) for seed in (1, 2)]
    return RandomMix([(1.0, SyntheticSource(images, options, lattice=(4, 14)))])


def held_out(count: int = 2) -> list[ViewPair]:
    rng = np.random.default_rng(99)
    return [source().sample(rng) for _ in range(count)]


def trainer(folder: Path, options: PatchTrainingOptions = OPTIONS, views: SyntheticOptions = VIEWS) -> PatchTrainer:
    return PatchTrainer(options, source(views), held_out(), folder)


def trained(run: PatchTrainer) -> L2Net:
    run.run(progress=False)
    return run.network.eval()


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def kill_after(running: PatchTrainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until a step has begun that never ends."""
    original: Callable[[], dict[str, float]] = running.train_step

    def interrupted() -> dict[str, float]:
        if running.step == step:
            raise KeyboardInterrupt
        return original()

    monkeypatch.setattr(running, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        running.run(progress=False)


def assert_same_weights(first: L2Net, second: L2Net) -> None:
    one, other = first.published(), second.published()
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize(
    "options",
    [OPTIONS, replace(OPTIONS, form="patches", dropout=0.3), replace(OPTIONS, architecture="sosnet")],
    ids=["dense", "patches with dropout", "sosnet"],
)
def test_a_resumed_run_equals_an_undisturbed_one(
    options: PatchTrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained(trainer(tmp_path / "one", options))
    kill_after(trainer(tmp_path / "two", options), 3, monkeypatch)  # one step after the checkpoint
    assert [record["step"] for record in logged(tmp_path / "two")] == [0, 1, 2, 3]
    resumed = trainer(tmp_path / "two", options)
    assert resumed.step == 2
    assert_same_weights(undisturbed, trained(resumed))
    first, second = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert [record["step"] for record in second] == [0, 1, 2, 3, 4]
    for one, other in zip(first, second, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        running = trainer(tmp_path / str(number), replace(OPTIONS, seed=seed))
        running.step = 1  # the rate of step 0 is zero
        losses.append((running.train_step(), running.train_step()))
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][0] != losses[0][1]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, L2Net]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, trained(trainer(folder))


@pytest.fixture
def finished(finished_run: tuple[Path, L2Net], tmp_path: Path) -> Path:
    """A copy of the folder of a finished run."""
    return Path(shutil.copytree(finished_run[0], tmp_path / "finished"))


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_after(trainer(tmp_path), 1, monkeypatch)
    assert [record["step"] for record in logged(tmp_path)] == [0, 1]
    again = trainer(tmp_path)
    assert again.step == 0
    assert not (tmp_path / "log.jsonl").exists()


def test_a_finished_run_is_not_trained_further(
    finished: Path, finished_run: tuple[Path, L2Net], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = trainer(finished)
    monkeypatch.setattr(again, "train_step", lambda: pytest.fail("trained beyond the last step"))
    assert_same_weights(finished_run[1], trained(again))


def test_lines_of_the_log_cut_short_by_a_kill_are_dropped(finished: Path) -> None:
    log = finished / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 5, "loss": 0.25}\n{"step": 3, "lo')
    trainer(finished)
    assert log.read_text() == whole
    log.write_text(whole + "[]\n\n{}")
    trainer(finished)
    assert log.read_text() == whole


@pytest.mark.parametrize("change", [{"steps": 9}, {"seed": 5, "window": 33}, {"learning_rate": 1e-4}])
def test_other_options_are_refused(finished: Path, change: dict[str, float]) -> None:
    names = ", ".join(sorted(change))
    with pytest.raises(ConfigurationError, match=rf"checkpoint.pt: .* other options \({names}\); use the same"):
        trainer(finished, replace(OPTIONS, **change))  # type: ignore[arg-type]


def test_a_checkpoint_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while the second checkpoint is written leaves the first one."""
    running = trainer(tmp_path)
    original, saves = torch.save, []

    def killed_the_second_time(state: object, file: BinaryIO) -> None:
        saves.append(file)
        if len(saves) == 2:
            file.write(b"half a checkpoint")
            raise KeyboardInterrupt
        original(state, file)

    monkeypatch.setattr(torch, "save", killed_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        running.run(progress=False)
    assert trainer(tmp_path).step == 2


@pytest.mark.parametrize("architecture", ["hardnet", "sosnet"])
def test_the_loss_falls(tmp_path: Path, architecture: str) -> None:
    options = replace(OPTIONS, architecture=architecture, steps=16, points=32, validate_every=100)
    trainer(tmp_path, options, EASY).run(progress=False)
    losses = [record["loss"] for record in logged(tmp_path)[1:]]
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])


def test_sosnet_adds_its_regulariser(tmp_path: Path) -> None:
    losses = {}
    for weight in (0.0, 1.0, 2.0):
        options = replace(OPTIONS, architecture="sosnet", steps=1, second_order=weight)
        losses[weight] = trainer(tmp_path / str(weight), options).train_step()["loss"]
    assert losses[1.0] > losses[0.0] + 0.01
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * (losses[1.0] - losses[0.0]), rel=1e-3)
    hardnet = trainer(tmp_path / "hardnet", replace(OPTIONS, steps=1)).train_step()["loss"]
    assert hardnet == pytest.approx(losses[0.0], rel=1e-3)  # the same layers and, densely, the same normalisation


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rate = patch_descriptors._schedule
    assert [rate(x) for x in (0, 0.015, 0.03)] == pytest.approx([0, 0.5, 1])
    assert rate(0.03 + 0.97 / 2) == pytest.approx(0.5)
    assert rate(0.03 + 0.97 / 3) == pytest.approx(0.75)  # (1 + cos 60) / 2
    assert rate(1.0) == pytest.approx(0)


def test_the_checkpoint_loads_as_weights(finished_run: tuple[Path, L2Net]) -> None:
    folder, network = finished_run
    tensors = weights.load(str(folder / "checkpoint.pt")).tensors
    assert all(torch.equal(tensors[name], tensor) for name, tensor in network.published().items())


@pytest.mark.parametrize("source_", ["hardnet", "sosnet"])
@pytest.mark.parametrize("target", ["hardnet", "sosnet"])
@pytest.mark.parametrize("batch_counts", [True, False])
def test_either_network_can_start_from_either(tmp_path: Path, source_: str, target: str, batch_counts: bool) -> None:
    """Also from checkpoints of an old PyTorch, which did not count batches."""
    given = calibrated_network(source_, seed=4)
    initial = {k: v for k, v in given.published().items() if batch_counts or not k.endswith("num_batches_tracked")}
    options = replace(OPTIONS, architecture=target)
    network = PatchTrainer(
        options, source(), held_out(), tmp_path, weights.Checkpoint(initial, {}, "00")
    ).network.eval()
    network.window, network.eps = given.window, given.eps
    image = as_tensor(photograph(60, 70, 8).astype(np.float32) / 255)
    with torch.no_grad():
        torch.testing.assert_close(network(image), given(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "initial", [{"conv1a.weight": torch.zeros(64, 1, 3, 3)}, {"features.0.weight": torch.zeros(3)}]
)
def test_other_weights_are_no_start(tmp_path: Path, initial: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigurationError, match="not those of a HardNet or SOSNet"):
        PatchTrainer(OPTIONS, source(), held_out(), tmp_path, weights.Checkpoint(initial, {}, "00"))


def on_lattice(seed: int) -> ViewPair:
    """A photograph as both views, with its dense map's cells as points."""
    image = photograph(96, 96, seed)
    cells = np.array([[1, 2], [4, 4], [9, 3], [16, 16], [0, 11]], np.float32)
    points = map_to_pixels(torch.from_numpy(cells)).numpy()
    return ViewPair((image, image), points, points)


def cosines(result: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    return (result * F.normalize(expected.float(), dim=1)).sum(dim=1)


def test_dense_descriptors_are_read_at_their_cells() -> None:
    network = calibrated_network()
    batch = [on_lattice(3), on_lattice(4)]
    rng = np.random.default_rng(0)
    with torch.no_grad():
        descriptors0, descriptors1, _ = describe_pairs(network, batch, OPTIONS, rng)
        order = [np.random.default_rng(0).permutation(5)]
        dense = [network(as_tensor(pair.images[0].astype(np.float32) / 255))[0] for pair in batch]
    cells = ((batch[0].points0 - 14) / 4).astype(int)[order[0]]
    expected = dense[0][:, cells[:, 1], cells[:, 0]].T
    assert cosines(descriptors0[:5], expected).min() > 0.999  # training runs in bf16
    torch.testing.assert_close(descriptors0, descriptors1)


def test_patches_are_cut_around_their_points() -> None:
    network = calibrated_network()
    image = photograph(96, 96, 5)
    points = np.array([[30.5, 40.5], [60.5, 25.5], [47.5, 70.5]], np.float32)
    options = replace(OPTIONS, form="patches")
    with torch.no_grad():
        descriptors, _, _ = describe_pairs(
            network, [ViewPair((image, image), points, points)], options, np.random.default_rng(0)
        )
        order = np.random.default_rng(0).permutation(3)
        corners = (points[order] - 15.5).astype(int)
        crops = np.stack([image[y : y + 32, x : x + 32] for x, y in corners]).astype(np.float32) / 255
        expected = network.describe_patches(torch.from_numpy(crops)[:, None])
    assert cosines(descriptors, expected).min() > 0.999


def test_a_kept_point_stays_with_its_partner() -> None:
    """Of more points than are asked for, both views keep the same ones."""
    network, pair = calibrated_network(), on_lattice(6)
    options = replace(OPTIONS, points=3)
    with torch.no_grad():
        descriptors0, descriptors1, near = describe_pairs(network, [pair], options, np.random.default_rng(1))
    assert descriptors0.shape == (3, 128)
    torch.testing.assert_close(descriptors0, descriptors1)
    torch.testing.assert_close(near, torch.eye(3, dtype=torch.bool))


def test_close_points_of_a_pair_are_no_negatives() -> None:
    image = photograph(96, 96, 7)
    points0 = np.array([[20, 20], [31, 20], [70, 70], [20, 70]], np.float32)
    points1 = np.array([[20, 20], [60, 20], [70, 70], [76, 76]], np.float32)
    batch = [ViewPair((image, image), points0, points1), ViewPair((image, image), points0, points1)]
    with torch.no_grad():
        _, _, near = describe_pairs(calibrated_network(), batch, OPTIONS, np.random.default_rng(2))
    rng = np.random.default_rng(2)
    orders = [rng.permutation(4), rng.permutation(4)]
    expected = np.zeros((8, 8), bool)
    close = {(0, 1), (1, 0), (2, 3), (3, 2)} | {(i, i) for i in range(4)}  # 11 pixels in view 0, 8.5 in view 1
    for half, order in enumerate(orders):
        for a, i in enumerate(order):
            for b, j in enumerate(order):
                expected[4 * half + a, 4 * half + b] = (i, j) in close
    np.testing.assert_array_equal(near.numpy(), expected)


@forms
def test_accuracy_is_the_share_of_right_nearest_neighbours(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    anchors = rng.normal(size=(2, 10, 16))
    positives = anchors.copy()
    positives[0, :3] = anchors[0, [1, 2, 0]]  # three wrong ones in the first batch

    def described(
        network: L2Net, batch: list[ViewPair], options: PatchTrainingOptions, _: object
    ) -> tuple[torch.Tensor, ...]:
        wrong = positives if options.form == form else anchors
        number = next(i for i, pair in enumerate(pairs) if pair is batch[0])
        a, b = (F.normalize(torch.from_numpy(x[number]), dim=1) for x in (anchors, wrong))
        return a, b, torch.eye(10, dtype=torch.bool)

    pairs = held_out()
    running = PatchTrainer(replace(OPTIONS, pairs=1), source(), pairs, tmp_path)
    monkeypatch.setattr(patch_descriptors, "describe_pairs", described)
    other = "patches" if form == "dense" else "dense"
    assert running.validate() == {f"accuracy_{form}": 17 / 20, f"accuracy_{other}": 1.0}
