"""The training loop: what it learns, what a kill leaves, what it does with numbers that are none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, TrainingError
from posfeat_hloc.extractors import posfeat as extractor
from posfeat_hloc.training.correspondence_search import LineToWindowOptions
from posfeat_hloc.training.detection_loss import DetectionOptions
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.posfeat import PoSFeatTrainer, TrainOptions
from posfeat_hloc.training.stages import LossOptions, StageLoss
from posfeat_hloc.training.views import RandomMix
from tests.training.scenes import SIZE, mix, photographs

OPTIONS = TrainOptions(
    backbone="small",
    steps=4,
    batch=1,
    precision="fp32",
    validate_every=2,
    loss=LossOptions(line_to_window=LineToWindowOptions(window=0.3)),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RandomMix[PosedPair]:
    return mix(photographs(tmp_path_factory.mktemp("photographs")))


@pytest.fixture(scope="module")
def held_out(source: RandomMix[PosedPair]) -> list[PosedPair]:
    return [source.sample(np.random.default_rng([9, i])) for i in range(2)]


def weights_of(trainer: PoSFeatTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_killed_run_ends_like_an_undisturbed_one(
    source: RandomMix[PosedPair], held_out: list[PosedPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PoSFeatTrainer(OPTIONS, source, held_out, tmp_path / "whole")
    whole.run(progress=False)

    killed = PoSFeatTrainer(OPTIONS, source, held_out, tmp_path / "killed")
    train_step = killed._train_step

    def until_the_kill(*args: Any) -> dict[str, float]:
        if killed.step == 3:  # one step after the checkpoint
            raise KeyboardInterrupt
        return train_step(*args)

    monkeypatch.setattr(killed, "_train_step", until_the_kill)
    with pytest.raises(KeyboardInterrupt):
        killed.run(progress=False)
    resumed = PoSFeatTrainer(OPTIONS, source, held_out, tmp_path / "killed")
    assert resumed.step == 2
    resumed.run(progress=False)

    expected = weights_of(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights_of(resumed).items())
    logged = [lines(tmp_path / name) for name in ("whole", "killed")]
    assert [line["step"] for line in logged[1]] == [0, 1, 2, 3, 4]
    assert [line.get("epipolar") for line in logged[0]] == [line.get("epipolar") for line in logged[1]]
    assert (tmp_path / "whole" / "weights.safetensors").read_bytes() == resumed.weights_file.read_bytes()


def test_other_options_are_not_mixed(source: RandomMix[PosedPair], held_out: list[PosedPair], tmp_path: Path) -> None:
    options = replace(OPTIONS, steps=1, validate_every=1)
    PoSFeatTrainer(options, source, held_out, tmp_path).run(progress=False)
    with pytest.raises(ConfigurationError, match=r"other options \(batch, data\)"):
        PoSFeatTrainer(replace(options, batch=2, data=("others",)), source, held_out, tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps 0"),
        ({"batch": -1, "accumulate": 0}, "batch -1, accumulate 0"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"color": 2.0}, "color"),
        ({"seed": -1}, "seed"),
        ({"relight": 1.5}, "relight"),
        ({"loss": LossOptions(detection=DetectionOptions(threshold=0))}, "right_within 0"),
        ({"stage": "both"}, "'both'"),
        ({"loss": LossOptions(line_to_window=LineToWindowOptions(line_points=0))}, "line_points 0"),
        ({"loss": LossOptions(line_to_window=LineToWindowOptions(window=1.5))}, "window"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        replace(OPTIONS, **options)


def test_weights_of_another_trunk_are_refused(source: RandomMix[PosedPair], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not those of a resnet18"):
        PoSFeatTrainer(
            replace(OPTIONS, backbone="resnet18"),
            source,
            [],
            tmp_path,
            {"backbone.layer3.5.conv1.weight": torch.zeros(1)},
        )


def test_accumulated_batches_are_averaged(source: RandomMix[PosedPair], tmp_path: Path) -> None:
    """One plain SGD step over two batches is the mean of the two steps over one."""
    options = replace(OPTIONS, steps=1, momentum=0.0, stage="detect", learning_rate=0.1)
    start = PoSFeatTrainer(options, source, [], tmp_path / "start")
    before = weights_of(start)
    moved = []
    for i in range(2):
        one = PoSFeatTrainer(replace(options, seed=0), source, [], tmp_path / f"one{i}", before)
        one.options = replace(options, accumulate=1)
        batch = one.dataset.draw(i)
        generator = torch.Generator().manual_seed(i)
        loss, _ = one.objective.train()(batch.to(torch.device("cpu")), generator)
        one.optimizer.zero_grad()
        loss.backward()
        one.optimizer.step()
        moved.append(weights_of(one))
    both = PoSFeatTrainer(replace(options, accumulate=2), source, [], tmp_path / "both", before)
    both._train_step(both.objective, [both.dataset.draw(0), both.dataset.draw(1)])
    name = "localheader.conv5.weight"
    expected = (moved[0][name] + moved[1][name]) / 2
    torch.testing.assert_close(both.network.state_dict()[name], expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(before[name], expected)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_numbers_that_are_none_stop_the_run_and_spare_the_checkpoint(
    where: str,
    source: RandomMix[PosedPair],
    held_out: list[PosedPair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = PoSFeatTrainer(OPTIONS, source, held_out, tmp_path)
    forward = StageLoss.forward

    def broken(self: StageLoss, *args: Any) -> tuple[torch.Tensor, dict[str, float]]:
        loss, report = forward(self, *args)
        if trainer.step < 3:
            return loss, report
        if where == "loss":
            return loss * float("nan"), report
        zero = loss - loss.detach()
        return loss.detach() + zero.abs().sqrt(), report  # finite, with an infinite slope

    monkeypatch.setattr(StageLoss, "forward", broken)
    with pytest.raises(TrainingError, match=r"step 3: .*failed_batch_3\.pt"):
        trainer.run(progress=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["network"].values())
    saved = torch.load(tmp_path / "failed_batch_3.pt", weights_only=True)
    assert saved[0]["images0"].shape == (1, 3, SIZE[1], SIZE[0])
    # the way out that the message names: the run goes on with a lower rate
    resumed = PoSFeatTrainer(replace(OPTIONS, learning_rate=1e-5), source, held_out, tmp_path)
    assert resumed.step == 2


def test_the_best_weights_are_ready_for_extraction(
    source: RandomMix[PosedPair], held_out: list[PosedPair], tmp_path: Path
) -> None:
    options = replace(OPTIONS, stage="detect", steps=2)
    trainer = PoSFeatTrainer(options, source, held_out, tmp_path)
    metrics = trainer.run(progress=False)
    assert metrics["matches"] > 0
    ready = extractor.Extractor(extractor.Options(weights=str(trainer.weights_file)), torch.device("cpu"))
    assert ready.grid_alignment == "published"
    image = torch.from_numpy(held_out[0].image0.transpose(2, 0, 1).copy())[None].float() / 255
    assert len(ready(image)[0]) > 0


@pytest.mark.parametrize(("scores", "best"), [((0.1, 0.5, 0.3), 2), ((0.5, 0.3, 0.2), 0)])
def test_the_best_is_kept_be_it_the_start(
    scores: tuple[float, ...],
    best: int,
    source: RandomMix[PosedPair],
    held_out: list[PosedPair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = iter(scores)
    trainer = PoSFeatTrainer(OPTIONS, source, held_out, tmp_path)
    monkeypatch.setattr(trainer, "validate", lambda: {"grid_score": next(values)})
    trainer.run(progress=False)
    assert weights.load(str(trainer.weights_file)).metadata["step"] == str(best)
    assert trainer.best == 0.5


def test_tensorboard_has_the_matches(source: RandomMix[PosedPair], held_out: list[PosedPair], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = replace(OPTIONS, stage="detect", steps=1)
    PoSFeatTrainer(options, source, held_out, tmp_path).run(progress=False)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("matches")] == [0, 1]
    assert events.Images("scores")[0].width == 2 * SIZE[0]
    assert [scalar.step for scalar in events.Scalars("reward")] == [1]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, (1.9, 2.71)),  # Nesterov: v = 0.9 v + g, and the step is g + 0.9 v
        ({"momentum": 0.0}, (1, 1)),
        ({"optimizer": "adam"}, (1, 1)),
    ],
)
def test_the_optimisers_steps_under_a_gradient_of_one(
    changes: dict[str, Any], steps: tuple[float, float], source: RandomMix[PosedPair], tmp_path: Path
) -> None:
    trainer = PoSFeatTrainer(replace(OPTIONS, **changes), source, [], tmp_path)
    weight = trainer.network.get_parameter("backbone.conv_fine.weight")
    for expected in steps:
        before = weight.detach().clone()
        trainer.optimizer.zero_grad()
        weight.grad = torch.ones_like(weight)
        trainer.optimizer.step()
        moved = (before - weight.detach()) / OPTIONS.learning_rate
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=1e-3)


def test_the_rate_falls_at_the_end(source: RandomMix[PosedPair], tmp_path: Path) -> None:
    trainer = PoSFeatTrainer(replace(OPTIONS, steps=10, decay_after=0.9), source, [], tmp_path)
    rates = []
    for step in (0, 8, 9):
        trainer.step = step
        trainer._train_step(trainer.objective, [trainer.dataset.draw(0)])
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4])


def test_the_rate_of_the_warm_up_follows_a_cosine() -> None:
    options = replace(OPTIONS, stage="warmup", steps=100, learning_rate=2e-3)
    assert [options.rate(step) for step in (0, 25, 50, 100)] == pytest.approx([2e-3, 1e-3 * (1 + 2**-0.5), 1e-3, 0])


def test_training_teaches_matching(source: RandomMix[PosedPair], tmp_path: Path) -> None:
    """A few steps of the warm-up on one pair: its points are told apart."""
    fixed = source.sample(np.random.default_rng([0, 0]))

    class Always:
        def sample(self, rng: np.random.Generator) -> PosedPair:
            return fixed

    options = replace(
        OPTIONS, stage="warmup", optimizer="adam", learning_rate=2e-3, steps=12, validate_every=12, color=0.0
    )
    trainer = PoSFeatTrainer(options, RandomMix([(1.0, Always())]), [fixed], tmp_path)
    trainer.run(progress=False)
    logged = [line["contrastive"] for line in lines(tmp_path)[1:]]
    assert logged[-1] < 0.3 * logged[0]
