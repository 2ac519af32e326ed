"""What Windows and macOS lack is not used: no fork, and no call of ``os`` that only POSIX has without another way."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

import posfeat_hloc
from posfeat_hloc.training.posed_batches import PosedDataset, open_source
from posfeat_hloc.training.views import RandomMix

ROOT = Path(posfeat_hloc.__file__).parents[1]
FILES = sorted(path for folder in ("posfeat_hloc", "pipelines") for path in (ROOT / folder).rglob("*.py"))
POSIX_ONLY = {
    "fork", "forkpty", "pread", "pwrite", "preadv", "pwritev", "getuid", "geteuid", "getgid", "uname",
    "sched_getaffinity", "mkfifo", "chown", "statvfs", "fchmod", "fchown", "posix_fallocate", "sysconf", "killpg",
    "setsid", "wait3", "wait4",
}  # fmt: skip
"""Of ``os``."""
SIGNALS = {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer"}
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix"}


def test_nothing_needs_posix() -> None:
    needed = [f"{path.relative_to(ROOT)}, line {line}: {what}" for path in FILES for line, what in _posix(path)]
    assert len(FILES) > 200
    assert not needed


def _posix(path: Path) -> Iterator[tuple[int, str]]:
    """Lines outside of ``try`` and conditions that need a POSIX system."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Try, ast.IfExp, ast.If)
    guarded = {id(inner) for node in ast.walk(tree) if isinstance(node, kinds) for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree) if id(node) not in guarded):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from ((node.lineno, name) for name in names if name in MODULES)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = node.value.id
            if node.attr in {"os": POSIX_ONLY, "signal": SIGNALS}.get(module, ()):
                yield node.lineno, f"{module}.{node.attr}"


def test_all_works_where_fcntl_is_missing(tmp_path: Path) -> None:
    """The parts that lock, in a Python that finds no fcntl, as on Windows; filelock's own is let alone."""
    script = f"""
import sys
import filelock
sys.modules["fcntl"] = None
from pathlib import Path
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.stores.journal import JournaledFile, recover
folder = Path({str(tmp_path)!r})
for use in (lambda: JournaledFile(folder / "f"), lambda: recover(folder / "f")):
    with JournaledFile(folder / "f") as file:
        file.write(b"abc")
        file.commit()
        try:
            use()
        except StoreError as error:
            print(error)
with only_writer(folder):
    try:
        with only_writer(folder):
            pass
    except ConfigurationError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(":")[2].strip() for line in done.stdout.splitlines()] == [
        "in use by another process; wait for it or choose another output",
        "in use by another process; wait for it or choose another output",
        "another run is writing here; wait for it or choose another output",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_loader_processes_may_be_spawned(tmp_path: Path) -> None:
    """Spawned processes, the only ones on Windows and macOS, get their data set by pickle."""
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, (200, 240, 3), np.uint8))
    dataset = PosedDataset(RandomMix([(1.0, open_source(f"synthetic:{tmp_path}", size=(96, 96)))]))
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.draw(3).images0, dataset.draw(3).images0)
