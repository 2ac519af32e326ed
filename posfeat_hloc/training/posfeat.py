"""Training of PoSFeat, stage by stage, in a folder that can be resumed; on one processor or on several."""

from __future__ import annotations

import contextlib
import json
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from posfeat_hloc.errors import ConfigurationError, Option, TrainingError
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.training.loop import RunFolder, Trainer, tensorboard
from posfeat_hloc.training.options import LoopOptions
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, batches
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.stages import STAGES, WITH_HEAD, LossOptions, StageLoss, Teacher
from posfeat_hloc.training.validation import better, draw_matches, draw_scores, look, validate
from posfeat_hloc.training.views import RandomMix
from posfeat_hloc.weights.loading import save_posfeat


@dataclass(frozen=True, kw_only=True)
class TrainOptions(LoopOptions):
    """How a stage is trained; the defaults are the paper's for the description stage."""

    stage: str = "describe"
    backbone: str = "resnet50"
    steps: int = 100_000
    batch: int = 6
    """Image pairs in a step of one process."""
    optimizer: str = "sgd"
    """``sgd`` or ``adam``."""
    momentum: float = 0.9
    """Of SGD, with Nesterov's form; 0 for plain SGD."""
    learning_rate: float = 1e-3
    decay_after: float = 0.9
    """After this part of the steps the rate is divided by ten; ``warmup`` and ``distill`` follow half a cosine down to
    zero."""
    points: int = 512
    """True correspondences tried in a pair (``warmup``)."""
    data: tuple[str, ...] = ()
    """What the source was made of, in words; a run is resumed on the same data only."""
    loss: LossOptions = field(default_factory=LossOptions)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.stage in ("warmup", "distill"):
            return self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * (1.0 if step < self.decay_after * self.steps else 0.1)

    def __post_init__(self) -> None:
        """Refuse values that cannot be, with a ConfigurationError."""
        search = self.loss.line_to_window
        numbers = {
            "steps": self.steps,
            "batch": self.batch,
            "accumulate": self.accumulate,
            "validate_every": self.validate_every,
            "save_every": self.save_every,
            "learning_rate": self.learning_rate,
            "line_points": search.line_points,
            "window": search.window,
            "min_variance": search.min_variance,
            "right_within": self.loss.detection.threshold,
        }
        if wrong := {name: value for name, value in numbers.items() if not value > 0}:
            told = ", ".join(f"{name} {value}" for name, value in wrong.items())
            raise ConfigurationError(f"must be greater than zero: {told}")
        if not (0 <= self.color <= 1 and 0 <= self.relight <= 1 and search.window <= 1 and self.seed >= 0):
            raise ConfigurationError("color, relight and window must be at most 1, the seed must not be negative")
        if self.stage not in STAGES or self.optimizer not in ("sgd", "adam"):
            raise ConfigurationError(f"no stage {self.stage!r} with optimizer {self.optimizer!r}")


CHANGEABLE = ("learning_rate", "precision", "validate_every", "save_every")
"""Options that may differ when a run is resumed, as after a step that gave no number."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; torch's launcher starts them."""

    rank: int = 0
    count: int = 1


class PoSFeatTrainer(Trainer):
    """One stage of training, a run of :class:`posfeat_hloc.training.loop.Trainer`.

    ``weights.safetensors`` are the best weights so far.

    Args:
        options: of the run; a folder with a checkpoint made with others is refused.
        source: of training pairs.
        validation: fixed held-out pairs.
        folder: where everything is kept.
        initial: state of :class:`PoSFeat` to start from, whole or in part.
        device: to train on.
        processes: when several train together; each sees other pairs, gradients are averaged.
        workers: processes that prepare batches.
        teacher: whom the stage ``distill`` imitates.
    """

    def __init__(
        self,
        options: TrainOptions,
        source: RandomMix[PosedPair],
        validation: list[PosedPair],
        folder: Path,
        initial: dict[str, Tensor] | None = None,
        device: torch.device | None = None,
        processes: Processes | None = None,
        workers: int = 0,
        teacher: Teacher | None = None,
    ) -> None:
        self.processes = processes or Processes()
        self.writes = self.processes.rank == 0
        recorded = asdict(options) | {"processes": self.processes.count}
        run = RunFolder(folder, recorded, CHANGEABLE, writes=self.writes)
        super().__init__(run, options.steps, options.validate_every, save_every=options.save_every)
        self.label = options.stage
        self.options = options
        self.validation = validation
        self.device = device or torch.device("cpu")
        self.workers = workers
        self.dataset = PosedDataset(
            source, options.seed, options.color, options.points * (options.stage == "warmup"), options.relight
        )
        torch.manual_seed(options.seed)
        self.network = PoSFeat(options.backbone)
        if initial is not None:
            unknown = self.network.load_state_dict(initial, strict=False).unexpected_keys
            if unknown:
                raise ConfigurationError(
                    f"the initial weights are not those of a {options.backbone} (e.g. {unknown[0]})"
                )
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = StageLoss(self.network, options.stage, options.loss, teacher and teacher.to(self.device))
        self.optimizer = self._optimizer()
        self.best = float("-inf")
        self._board: Any = None
        self.resume()

    @property
    def weights_file(self) -> Path:
        """The best weights, ready for a conf's ``weights``."""
        return self.folder.path / "weights.safetensors"

    def run(self, progress: bool = True) -> dict[str, float]:
        """Train up to the last step; returns the metrics of the last validation.

        Raises:
            TrainingError: the loss is not finite; the batch is saved, the last checkpoint is intact.
        """
        opt = self.options
        self._stream = batches(
            self.dataset,
            self.step * opt.accumulate,
            opt.steps * opt.accumulate,
            opt.batch,
            self.workers,
            self.processes.rank,
            self.processes.count,
        )
        self._objective: nn.Module = self.objective
        if self.processes.count > 1:
            self._objective = DistributedDataParallel(self.objective)
        self._board = tensorboard(self.folder.path, self.step) if self.writes else None
        metrics = super().run(progress)
        if self._board is not None:
            self._board.close()
        return metrics

    def train_step(self) -> dict[str, float]:
        """One step on the next batches."""
        return self._train_step(self._objective, [next(self._stream) for _ in range(self.options.accumulate)])

    def _train_step(self, objective: nn.Module, micro: list[Batch]) -> dict[str, float]:
        opt = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = opt.rate(self.step)
        objective.train()
        self.optimizer.zero_grad()
        reports = []
        for i, batch in enumerate(micro):
            generator = torch.Generator().manual_seed(
                ((opt.seed * 1_000_003 + self.step) * opt.accumulate + i) * self.processes.count + self.processes.rank
            )
            last = i == len(micro) - 1
            sync: AbstractContextManager[Any] = nullcontext()
            if isinstance(objective, DistributedDataParallel) and not last:
                sync = objective.no_sync()
            with sync:
                with inference_precision(self.device, opt.precision):
                    loss, report = objective(batch.to(self.device), generator)
                if not torch.isfinite(loss):
                    self._refuse(micro, loss)
                (loss / len(micro)).backward()
            reports.append(report)
        if not all(p.grad is None or torch.isfinite(p.grad).all() for p in self.network.parameters()):
            self._refuse(micro, loss)
        self.optimizer.step()
        return {name: sum(r[name] for r in reports) / len(reports) for name in reports[0]}

    def _refuse(self, micro: list[Batch], loss: Tensor) -> None:
        name = f"failed_batch_{self.step}" + (f"_{self.processes.rank}" if self.processes.count > 1 else "")
        path = self.folder.path / f"{name}.pt"
        with contextlib.suppress(OSError, RuntimeError):  # a full disk must not hide the message
            torch.save([vars(batch) for batch in micro], path)
        raise TrainingError(
            f"step {self.step}: the loss ({float(loss.detach()):.4g}) or its gradient is not finite; the last "
            f"checkpoint is unchanged, the batch was saved to {path}. Resume with a lower ",
            Option("learning_rate"),
            " or ",
            Option("precision", "fp32"),
        )

    def validate(self) -> dict[str, float]:
        """Metrics of the held-out pairs; TensorBoard is shown matches and scores of the first one."""
        self.network.eval()
        opt = self.options
        grid_alignment = opt.loss.line_to_window.grid_alignment
        detects = opt.stage in WITH_HEAD
        metrics = validate(self.network, self.validation, grid_alignment, detects, opt.precision)
        if self._board is not None and self.validation:
            matched, scores = look(self.network, self.validation[0], grid_alignment, opt.precision)
            self._board.add_image("matches", draw_matches(self.validation[0], matched), self.step, dataformats="HWC")
            if detects:
                picture = draw_scores(self.validation[0], scores, matched)
                self._board.add_image("scores", picture, self.step, dataformats="HWC")
        return metrics

    def export(self, metrics: dict[str, float]) -> None:
        """Write the weights if they are the best, including the initial ones."""
        opt = self.options
        if self.validation and better(opt.stage, metrics) > self.best:
            self.best = better(opt.stage, metrics)
            told = {"stage": opt.stage, "step": str(self.step), "metrics": json.dumps(metrics, sort_keys=True)}
            save_posfeat(self.weights_file, self.network, opt.loss.line_to_window.grid_alignment, told)

    def state(self) -> dict[str, Any]:
        """State of both networks, and the score of the best weights."""
        return {"best": self.best, "network": self.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load both networks'."""
        self.network.load_state_dict(state["network"])
        self.best = state["best"]

    def log(self, record: dict[str, float]) -> None:
        """Write one line, and log to TensorBoard."""
        super().log(record)
        if self._board is not None:
            for name, value in record.items():
                if name != "step":
                    self._board.add_scalar(name, value, record["step"])

    def _optimizer(self) -> torch.optim.Optimizer:
        opt = self.options
        trained = [p for p in self.network.parameters() if p.requires_grad]
        if opt.optimizer == "adam":
            return torch.optim.Adam(trained, lr=opt.learning_rate)
        return torch.optim.SGD(trained, lr=opt.learning_rate, momentum=opt.momentum, nesterov=opt.momentum > 0)
