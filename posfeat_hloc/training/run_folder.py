"""The folder of a training run: a checkpoint to resume from, and a log of one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from posfeat_hloc.confs import current_names
from posfeat_hloc.errors import ConfigurationError, Option, TrainingError
from posfeat_hloc.runtime.output import writing_remedy
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
        different = {key for key in saved.keys() | self.options if _differ(saved.get(key), self.options.get(key))}
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
        """Append one line; ``step`` tells which lines a resumed run makes again."""
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
