"""The loop that every training runs in: steps, a log, validation, checkpoints to resume from."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from posfeat_hloc.errors import Option, TrainingError
from posfeat_hloc.runtime.memory import keep_large_blocks
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.training.run_folder import RunFolder


class Trainer(ABC):
    """A resumable run in a folder with ``checkpoint.pt`` and ``log.jsonl``.

    Step i depends on the seed, i and the weights only, so that a run that was stopped and started again gives what an
    undisturbed one gives. A training says what a step does, how the state is validated, and what is kept of it.

    Args:
        folder: of the run.
        steps: of the whole run.
        validate_every: steps between validations, after each of which a checkpoint is written.
        log_every: steps between lines of the log, which hold the means of what the steps reported.
        save_every: steps between further checkpoints.
    """

    optimizer: torch.optim.Optimizer
    device = torch.device("cpu")
    label = "train"
    writes = True
    """False for all but one of the processes of a run."""

    def __init__(
        self, folder: RunFolder, steps: int, validate_every: int, log_every: int = 1, save_every: int | None = None
    ) -> None:
        self.folder, self.step = folder, 0
        self._steps, self._validate_every, self._log_every = steps, validate_every, log_every
        self._save_every = save_every or validate_every

    @abstractmethod
    def train_step(self) -> Mapping[str, Tensor | float]:
        """Step number ``self.step``; what the log shows of it, ``loss`` among it."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics of the state as it is; leaves the network in evaluation mode."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the optimiser and the step."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state` gave."""

    def export(self, metrics: dict[str, float]) -> None:  # noqa: B027  most write nothing
        """Called after each validation, before the checkpoint."""

    def log(self, record: dict[str, float]) -> None:
        """Write one line; ``record`` holds ``step``."""
        self.folder.log(record)

    def resume(self) -> None:
        """Go on where the folder's checkpoint was written, if it has one.

        Raises:
            ConfigurationError: see :meth:`RunFolder.resume`.
        """
        if state := self.folder.resume():
            self.restore(state)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: it cannot be written.
        """
        self.folder.save(self.step, optimizer=self.optimizer.state_dict(), **self.state())

    def run(self, progress: bool = True) -> dict[str, float]:
        """Train up to the last step; returns the metrics of the last validation.

        Raises:
            TrainingError: the loss is not finite, or a checkpoint cannot be written.
        """
        if self.device.type == "cpu":
            keep_large_blocks()
        metrics: dict[str, float] = {}
        if self.writes and self.step == 0:
            metrics = self._validated({"step": 0})
        total: dict[str, Any] = {}
        counted, start = 0, time.perf_counter()
        shown = progress and self.writes
        with Bar(total=self._steps, initial=self.step, disable=not shown, desc=self.label, unit="step") as bar:
            while self.step < self._steps:
                for name, value in self.train_step().items():
                    total[name] = total.get(name, 0) + value
                self.step += 1
                counted += 1
                bar.update()
                validates = self._due(self._validate_every)
                if not self.writes or not (validates or self._due(self._log_every)):
                    continue
                record = {name: float(value) / counted for name, value in total.items()}
                bar.set_postfix({name: f"{value:.3f}" for name, value in record.items()}, refresh=False)
                if not math.isfinite(record.get("loss", 0.0)):
                    raise TrainingError(
                        f"step {self.step}: the loss is not finite; use a lower ",
                        Option("learning_rate"),
                        " or ",
                        Option("precision", "fp32"),
                    )
                record |= {"step": self.step, "seconds": (time.perf_counter() - start) / counted}
                if validates:
                    metrics = self._validated(record)
                    bar.write(json.dumps({name: round(value, 4) for name, value in (record | metrics).items()}))
                else:
                    self.log(record)
                if validates or self._due(self._save_every):
                    self.save()
                total, counted, start = {}, 0, time.perf_counter()
        return metrics

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self._steps

    def _validated(self, record: dict[str, float]) -> dict[str, float]:
        metrics = self.validate()
        self.export(metrics)
        self.log(record | metrics)
        return metrics
