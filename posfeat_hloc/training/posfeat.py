"""Training of PoSFeat, stage by stage, in a folder that can be resumed; on one processor or on several."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from posfeat_hloc.errors import TrainingError
from posfeat_hloc.networks.loading import save_posfeat
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.precision import inference_precision
from posfeat_hloc.training.pictures import draw_matches, draw_scores
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, batches
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.run_folder import RunFolder
from posfeat_hloc.training.stages import LossOptions, StageLoss
from posfeat_hloc.training.validation import better, look, validate
from posfeat_hloc.training.views import RandomMix


@dataclass(frozen=True)
class TrainOptions:
    """How a stage is trained; the defaults are the paper's for the description stage."""

    stage: str = "describe"
    trunk: str = "resnet50"
    steps: int = 100_000
    batch: int = 6
    """Image pairs in a step of one process."""
    accumulate: int = 1
    """Batches whose gradients are averaged in one step."""
    optimizer: str = "sgd"
    """``sgd`` or ``adam``."""
    momentum: float = 0.9
    """Of SGD, with Nesterov's form; 0 for plain SGD."""
    learning_rate: float = 1e-3
    decay_after: float = 0.9
    """After this part of the steps the rate is divided by ten."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it."""
    seed: int = 0
    validate_every: int = 1000
    colour: float = 1.0
    """Strength of ColorJitter on each image."""
    points: int = 512
    """True correspondences tried in a pair (``warmup``)."""
    data: tuple[str, ...] = ()
    """What the source was made of, in words; a run is resumed on the same data only."""
    loss: LossOptions = field(default_factory=LossOptions)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; torch's launcher starts them."""

    rank: int = 0
    count: int = 1


class PoSFeatTrainer:
    """One stage of training: ``checkpoint.pt``, ``log.jsonl``, ``weights.safetensors`` (the best so far).

    Step i depends only on the seed, i and the weights, so a run that was stopped and started again gives what an
    undisturbed one gives.

    Args:
        options: of the run; a folder with a checkpoint made with others is refused.
        source: of training pairs.
        validation: fixed held-out pairs.
        folder: where everything is kept.
        initial: state of :class:`PoSFeat` to start from, whole or in part.
        device: to train on.
        processes: when several train together; each sees other pairs, gradients are averaged.
        workers: processes that prepare batches.
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
    ) -> None:
        self.options = options
        self.validation = validation
        self.device = device or torch.device("cpu")
        self.processes = processes or Processes()
        self.workers = workers
        self.dataset = PosedDataset(source, options.seed, options.colour, options.points * (options.stage == "warmup"))
        torch.manual_seed(options.seed)
        self.network = PoSFeat(options.trunk)
        if initial is not None:
            self.network.load_state_dict(initial, strict=False)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = StageLoss(self.network, options.stage, options.loss)
        self.optimizer = self._optimizer()
        self.step, self.best = 0, float("-inf")
        recorded = asdict(options) | {"processes": self.processes.count}
        self.folder = RunFolder(folder, recorded, writes=self.processes.rank == 0)
        if state := self.folder.resume():
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.best = state["step"], state["best"]

    @property
    def weights_file(self) -> Path:
        """The best weights so far, ready for ``--weights``."""
        return self.folder.path / "weights.safetensors"

    def run(self, progress: bool = True) -> dict[str, float]:
        """Train up to the last step; returns the metrics of the last validation.

        Raises:
            TrainingError: the loss is not finite; the batch is saved, the last checkpoint is intact.
        """
        opt = self.options
        objective: nn.Module = self.objective
        if self.processes.count > 1:
            objective = DistributedDataParallel(self.objective)
        chief = self.processes.rank == 0
        board = _tensorboard(self.folder.path) if chief else None
        metrics: dict[str, float] = {}
        if chief and self.step == 0:
            metrics = self._validate(board)  # what the start is worth
            self._log({"step": 0} | metrics, board)
        stream = batches(
            self.dataset,
            self.step * opt.accumulate,
            opt.steps * opt.accumulate,
            opt.batch,
            self.workers,
            self.processes.rank,
            self.processes.count,
        )
        with tqdm(total=opt.steps, initial=self.step, disable=not (progress and chief), desc=opt.stage) as bar:
            while self.step < opt.steps:
                start = time.perf_counter()
                report = self._train_step(objective, [next(stream) for _ in range(opt.accumulate)])
                self.step += 1
                bar.update()
                bar.set_postfix({name: f"{value:.3f}" for name, value in report.items()}, refresh=False)
                if not chief:
                    continue
                record = {"step": self.step, "seconds": time.perf_counter() - start} | report
                if self.step % opt.validate_every == 0 or self.step == opt.steps:
                    metrics = self._validate(board)
                    record |= metrics
                    bar.write(json.dumps({name: round(value, 4) for name, value in record.items()}))
                    self._save(metrics)
                self._log(record, board)
        return metrics

    def _train_step(self, objective: nn.Module, micro: list[Batch]) -> dict[str, float]:
        opt = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = opt.learning_rate * (1.0 if self.step < opt.decay_after * opt.steps else 0.1)
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
                    self._refuse(batch, loss)
                (loss / len(micro)).backward()
            reports.append(report)
        if not all(p.grad is None or torch.isfinite(p.grad).all() for p in self.network.parameters()):
            self._refuse(micro[-1], loss)
        self.optimizer.step()
        return {name: sum(r[name] for r in reports) / len(reports) for name in reports[0]}

    def _refuse(self, batch: Batch, loss: Tensor) -> None:
        path = self.folder.path / f"failed_batch_{self.step}.pt"
        torch.save(vars(batch), path)
        raise TrainingError(
            f"step {self.step}: the loss ({float(loss.detach()):.4g}) or its gradient is not finite; the last "
            f"checkpoint is as it was, the batch is in {path}. Lower the learning rate or train in fp32"
        )

    def _validate(self, board: Any) -> dict[str, float]:
        self.network.eval()
        opt = self.options
        convention = opt.loss.line_to_window.convention
        detects = opt.stage in ("detect", "joint")
        metrics = validate(self.network, self.validation, convention, detects)
        if board is not None and self.validation:
            matched, scores = look(self.network, self.validation[0], convention)
            board.add_image("matches", draw_matches(self.validation[0], matched), self.step, dataformats="HWC")
            if detects:
                picture = draw_scores(self.validation[0], scores, matched)
                board.add_image("scores", picture, self.step, dataformats="HWC")
        return metrics

    def _save(self, metrics: dict[str, float]) -> None:
        opt = self.options
        if better(opt.stage, metrics) > self.best:
            self.best = better(opt.stage, metrics)
            told = {"stage": opt.stage, "step": str(self.step), "metrics": json.dumps(metrics, sort_keys=True)}
            save_posfeat(self.weights_file, self.network, opt.loss.line_to_window.convention, told)
        self.folder.save(
            self.step, best=self.best, network=self.network.state_dict(), optimizer=self.optimizer.state_dict()
        )

    def _log(self, record: dict[str, Any], board: Any) -> None:
        self.folder.log(record)
        if board is not None:
            for name, value in record.items():
                if name != "step":
                    board.add_scalar(name, value, record["step"])

    def _optimizer(self) -> torch.optim.Optimizer:
        opt = self.options
        trained = [p for p in self.network.parameters() if p.requires_grad]
        if opt.optimizer == "adam":
            return torch.optim.Adam(trained, lr=opt.learning_rate)
        return torch.optim.SGD(trained, lr=opt.learning_rate, momentum=opt.momentum, nesterov=opt.momentum > 0)


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard, None where it is not installed (the extra ``train`` has it)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard")
