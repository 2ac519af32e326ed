"""The loop that every training runs in: steps, a log, validation, a folder with a checkpoint to resume from."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posfeat_hloc.confs import current_names
from posfeat_hloc.errors import ConfigurationError, Option, TrainingError
from posfeat_hloc.runtime.memory import keep_large_blocks
from posfeat_hloc.runtime.output import writing_remedy
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.text_files import JsonLines, write_lines


class RunFolder:
    """Checkpoints and log of one run; a run is resumed by opening its folder with the same options.

    Args:
        path: of the folder, made when it is missing.
        options: that define the run; a folder with a checkpoint made with others is refused.
        changeable: names of options that may differ when the run is resumed.
        writes: False for all but one of the processes of a run: they read the checkpoint and leave the rest alone.
    """

    def __init__(
        self, path: Path, options: dict[str, Any], changeable: Collection[str] = (), writes: bool = True
    ) -> None:
        self.path = path
        self.options = options
        self.changeable = changeable
        self.writes = writes

    @property
    def checkpoint(self) -> Path:
        """The file a killed run is resumed from."""
        return self.path / "checkpoint.pt"

    @property
    def log_file(self) -> Path:
        """Losses and metrics by step."""
        return self.path / "log.jsonl"

    def resume(self) -> dict[str, Any] | None:
        """The last saved state, with ``step`` in it; None, and an empty log, for a new run.

        Raises:
            ConfigurationError: the folder holds a run with other options, or a checkpoint that is none.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.checkpoint.exists():
            if self.writes:
                self.log_file.unlink(missing_ok=True)
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            saved, _ = current_names(state["options"]), state["step"]
        except Exception as error:  # torch.load raises many types, all of them mean the same to a user
            raise ConfigurationError(
                f"{self.checkpoint}: no checkpoint of a run ({type(error).__name__}); delete it to start again, or use "
                "another ",
                Option("output"),
            ) from error
        off = {key: type(value)() for key, value in self.options.items()}  # of options that the older version lacked
        saved = off | saved
        different = {key for key in saved if _differ(saved[key], self.options.get(key))}
        if different := different.difference(self.changeable):
            raise ConfigurationError(
                f"{self.checkpoint}: this run was started with other options ({', '.join(sorted(different))}); "
                "use the same options to resume it, or another ",
                Option("output"),
            )
        if self.writes:
            self._drop_lines_after(state["step"])
        return state

    def save(self, step: int, **state: Any) -> None:
        """Replace the checkpoint, at once or not at all.

        Raises:
            TrainingError: it cannot be written.
        """
        partial = self.checkpoint.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save(state | {"step": step, "options": self.options}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into the latter
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise TrainingError(
                f"{self.checkpoint}: cannot be written ({error}); {writing_remedy(self.checkpoint, error)}"
            ) from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line; a resumed run removes lines after its ``step``."""
        with JsonLines(self.log_file) as log:
            log.add(record)

    def _drop_lines_after(self, step: int) -> None:
        """Forget what a killed run logged after its last checkpoint; those steps are made again."""
        if self.log_file.exists():
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.split("\n") if _logged_step(line) <= step]
            write_lines(self.log_file, lines)


def _differ(saved: Any, now: Any) -> bool:
    """Whether options differ; of options within options, those that a run of an older version did not have do not."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return any(_differ(value, now.get(key)) for key, value in saved.items())
    return bool(saved != now)


def _logged_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the line a kill cut short
        return float("inf")


def tensorboard(folder: Path, step: int) -> Any:
    """A writer for TensorBoard, None where it is not installed (the extra ``train`` has it)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)


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
