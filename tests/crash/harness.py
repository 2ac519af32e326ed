"""Commands in forked processes that are stopped at random moments, run again, and compared with undisturbed runs.

Everything is imported once; a round costs a fork, not the start of Python.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch

from pipelines import localize, sfm, train
from tests.crash.comparison import differences
from tests.rendering import FOCAL, HEIGHT, WIDTH, write_scene
from tests.training.scenes import photographs

_TIMEOUT = 120.0
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, or minus the signal; what it printed to the terminal; seconds it took."""

    code: int
    printed: str
    seconds: float


def run(action: Callable[[], int], log: Path, stop_after: float | None = None, by: int = signal.SIGKILL) -> Ended:
    """Run in a forked process, and send it a signal after some seconds."""
    start = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the child can say what becomes of it
    child = os.fork()
    if child == 0:
        _become(action, log)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    code = _wait(child, start + (_TIMEOUT if stop_after is None else stop_after))
    if code is None:
        os.kill(child, signal.SIGABRT if stop_after is None else by)
        code = _wait(child, time.monotonic() + _TIMEOUT)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = -signal.SIGKILL if by == signal.SIGKILL else -signal.SIGALRM
    return Ended(code, log.read_text(errors="replace"), time.monotonic() - start)


def _become(action: Callable[[], int], log: Path) -> None:
    """Do the work of the child, and end."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            code = action()
        except KeyboardInterrupt:
            code = INTERRUPTED
            print("stopped; the command had not even begun")
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, until: float) -> int | None:
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


@dataclass(frozen=True)
class Stage:
    """A stage of a command.

    Attributes:
        name: for reports; for pipelines.sfm and pipelines.localize also that in ``summary.json``.
        command: what makes the output folder that it is given.
        finished: the output of an undisturbed run.
        before: files and folders of it that are there when the stage begins.
        begins, lasts: seconds after the start of the command, and in the stage, of an undisturbed run.
    """

    name: str
    command: Callable[[Path], int]
    finished: Path
    before: tuple[str, ...]
    begins: float = 0.0
    lasts: float = 0.0


@dataclass
class Count:
    """What became of the rounds of a stage."""

    rounds: int = 0
    kills: int = 0
    interrupts: int = 0
    survived: int = 0
    wrong: list[str] = field(default_factory=list)


class Workshop:
    """A rendered scene, and undisturbed runs of all commands on it.

    Args:
        folder: for everything; another workshop in the same folder takes what is there.
        commands: whose stages are wanted.
        retrieval: whether pipelines.sfm pairs images by global descriptors.
    """

    def __init__(
        self, folder: Path, commands: Sequence[str] = ("sfm", "localize", "train"), retrieval: bool = True
    ) -> None:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        self.folder, self.log = folder, folder / "log"
        self.photos, self.queries, self.pictures = folder / "photos", folder / "queries", folder / "pictures"
        self.commands = commands
        if not self.photos.exists():
            self._do(self._render)
        self.pairs = ["--pairs", "retrieval", "--neighbors", "4"] if retrieval else []
        self.stages: list[Stage] = []
        if "sfm" in commands:
            self.stages += self._sfm_stages()
        if "localize" in commands:
            self.stages += self._localize_stages()
        if "train" in commands:
            importlib.import_module("torch._dynamo")  # takes seconds, which each child would spend
            self.stages.append(self._train_stage())

    def _render(self) -> int:
        write_scene(folder := self.folder / "all", 7 if "localize" in self.commands else 5)
        for i, path in enumerate(sorted(folder.iterdir())):
            target = self.queries if i in (2, 4) and "localize" in self.commands else self.photos
            target.mkdir(exist_ok=True)
            shutil.move(path, target / path.name)
        if "train" in self.commands:
            shutil.copytree(photographs(self.folder / "drawn"), self.pictures)
        return 0

    def _do(self, action: Callable[[], int]) -> Ended:
        ended = run(action, self.log)
        if ended.code != 0:
            raise RuntimeError(f"an undisturbed run ended with {ended.code}:\n{ended.printed}")
        return ended

    def sfm(self, output: Path) -> int:
        """Reconstruct."""
        return sfm.main(
            ["--images", str(self.photos), "--output", str(output), "--feature", "sift", "--max-keypoints", "800",
             *self.pairs, "--camera", "single", "--camera-model", "SIMPLE_PINHOLE",
             "--camera-params", f"{FOCAL},{WIDTH / 2},{HEIGHT / 2}", "--quiet", "--no-report",
             "--threads", "1"]
        )  # fmt: skip

    def localize(self, output: Path) -> int:
        """Localize two photographs in the reconstruction."""
        return localize.main(
            ["--map", str(self.folder / "sfm"), "--queries", str(self.queries), "--output", str(output), "--quiet",
             "--no-report", "--threads", "1"]
        )  # fmt: skip

    def train(self, output: Path) -> int:
        """Warm up the light network for a few steps."""
        return train.main(
            ["--stage", "warmup", "--backbone", "small", "--data", f"synthetic:{self.pictures}", "--batch", "1",
             "--steps",
             "4", "--size", "64x64", "--validation-pairs", "1", "--validate-every", "2", "--save-every", "1",
             "--precision", "fp32", "--output", str(output)]
        )  # fmt: skip

    def _sfm_stages(self) -> list[Stage]:
        made: list[tuple[str, ...]] = [
            ("features.h5",),
            ("matches.h5", "pairs.txt"),
            ("database.db", "database.db.key"),
        ]
        names = ["extract", "match", "verify", "map"]
        if self.pairs:
            made.insert(1, ("global-feats-vlad-hardnet.h5",))
            names.insert(1, "retrieve")
        return self._stages_of(names, made, self.sfm, self.folder / "sfm")

    def _localize_stages(self) -> list[Stage]:
        made = [("features.h5",), ("matches.h5", "pairs.txt")]
        return self._stages_of(["extract", "match", "localize"], made, self.localize, self.folder / "localized")

    def _train_stage(self) -> Stage:
        finished = self.folder / "trained"
        return Stage("train", self.train, finished, (), 0.0, self._undisturbed(self.train, finished))

    def _stages_of(
        self, names: list[str], made: list[tuple[str, ...]], command: Callable[[Path], int], finished: Path
    ) -> list[Stage]:
        """Run a command undisturbed; its stages, with the times that its own summary tells."""
        total = self._undisturbed(command, finished)
        seconds = json.loads((finished / "summary.json").read_text())["seconds"]
        begins = total - sum(seconds.values())
        result, before = [], ()
        for name, files in zip(names, [*made, ()], strict=True):
            assert all((finished / file).exists() for file in files)
            result.append(Stage(name, command, finished, before, begins, seconds[name]))
            before = (*before, *files)
        return result

    def _undisturbed(self, command: Callable[[Path], int], finished: Path) -> float:
        """Seconds of a run, which is made once in a folder."""
        record = self.folder / f"{finished.name}.seconds"
        if not record.exists():
            shutil.rmtree(finished, ignore_errors=True)
            record.write_text(str(self._do(lambda: command(finished)).seconds))
        return float(record.read_text())

    def begin(self, stage: Stage) -> Path:
        """An output folder as it is when a stage begins."""
        output = self.folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        for name in stage.before:
            copy = shutil.copytree if (stage.finished / name).is_dir() else shutil.copy2
            copy(stage.finished / name, output / name)  # type: ignore[operator]
        return output

    def round(self, stage: Stage, rng: random.Random, count: Count) -> None:
        """Stop a stage one to three times, let it end, and compare."""
        output, problems = self.begin(stage), []
        count.rounds += 1
        for _ in range(rng.choice((1, 1, 2, 3))):
            by = signal.SIGINT if rng.random() < 0.25 else signal.SIGKILL
            after = rng.uniform(0.7 * stage.begins, stage.begins + 1.2 * stage.lasts)
            ended = run(lambda: stage.command(output), self.log, after, by)
            if ended.code == -signal.SIGKILL:
                count.kills += 1
            elif ended.code == INTERRUPTED and "stopped; " in ended.printed:
                count.interrupts += 1
            elif ended.code != 0:
                problems.append(f"stopped by {signal.Signals(by).name}: {ended.code}: {ended.printed[-1500:]}")
        ended = run(lambda: stage.command(output), self.log)
        if ended.code != 0:
            problems.append(f"the run after that: {ended.code}: {ended.printed[-1500:]}")
        else:
            problems += differences(output, stage.finished)
        if problems:
            count.wrong.append("; ".join(problems))
        else:
            count.survived += 1
