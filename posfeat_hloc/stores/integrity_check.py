"""Which groups of an HDF5 file are intact, whatever its damage does to HDF5; and a new file with those alone."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import posfeat_hloc
from posfeat_hloc.errors import StoreError
from posfeat_hloc.runtime.output import writing_remedy
from posfeat_hloc.stores.journal import journal_path, recover

_RESTARTS = 20
"""Groups that may crash or stop HDF5 before the rest of a file is given up."""

_START = 60.0
"""Seconds that Python may take to start on a busy machine."""


@dataclass
class FileReport:
    """What is intact in a file and what is not.

    Attributes:
        path: of the file.
        kinds: of intact groups (``features``, ``matches``, ``global descriptors``, ``unknown data``) -> number.
        intact: names of the intact groups.
        damaged: name of a group or place in the file -> what is wrong.
        notes: what else is to be said.
    """

    path: Path
    kinds: Counter[str] = field(default_factory=Counter)
    intact: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_file(path: Path, features: Sequence[Path] = (), limit: float = 20.0) -> FileReport:
    """Read all of a feature, match or global descriptor file, ours or hloc's, in a process that may crash or hang.

    What a killed run left in a journal is completed first, as every reader does.

    Args:
        path: of the file.
        features: for matches: the feature file they were made from, or both (of the first and the second images).
        limit: seconds without any progress after which the process counts as hanging.

    Raises:
        StoreError: no such file, or another process writes to it.
    """
    for needed in (path, *features):
        if not needed.is_file():
            raise StoreError(f"{needed}: no such file")
    report = FileReport(path)
    if journal_path(path).exists():
        recover(path)
        report.notes.append("the journal of an interrupted run was applied or discarded")
    skip: list[str] = []
    for _ in range(_RESTARTS):
        step, problem = "", ""
        order = {"path": str(path), "features": [str(p) for p in features], "skip": skip}
        for kind, *words in _messages(order, limit):
            if kind == "begin":
                step = words[0]
            elif kind == "end":
                _note(report, words[0], *words[1:])
                skip.append(words[0])
                step = ""
            elif kind == "damaged":
                report.damaged[words[0]] = words[1]
            elif kind == "failed":
                problem = words[0]
            elif kind == "done":
                return report
            elif kind == "ended":
                problem = f"reading it {words[0]}"
        if step.partition(" ")[0] not in ("group", "list"):
            report.damaged["the file"] = f"cannot be read as HDF5 ({problem})"
            return report
        report.damaged[step.partition(" ")[2] or "the list of groups"] = problem
        skip.append(step)
    report.damaged["the rest"] = f"given up after {_RESTARTS} groups that HDF5 cannot bear"
    return report


def repair_file(report: FileReport, limit: float = 20.0) -> Path:
    """Replace a file by one with its intact groups; returns where the damaged one is kept.

    Raises:
        StoreError: there is nothing to keep, the disk is full, or the file changed since it was checked.
    """
    path = report.path
    if not report.intact:
        raise StoreError(f"{path}: no group is intact; delete it and run again")
    partial, kept = path.with_name(path.name + ".partial"), _free_name(path)
    try:
        problem = "ended early"
        order = {"path": str(path), "target": str(partial), "names": report.intact}
        for kind, *words in _messages(order, limit):
            if kind == "done":
                problem = ""
            elif kind in ("failed", "ended"):
                problem = words[0]
        if not problem and (copy := check_file(partial, limit=limit)).intact != report.intact:
            problem = f"the copy has {len(copy.intact)} groups instead of {len(report.intact)}"
        if problem:
            raise StoreError(
                f"{path}: the intact groups cannot be copied ({problem}); {writing_remedy(path, OSError(problem))}"
            )
        try:
            os.link(path, kept)
        except OSError:  # a file system without links
            shutil.copy2(path, kept)
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be repaired ({error.strerror}); {writing_remedy(path, error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return kept


def _note(report: FileReport, step: str, kind: str, problem: str) -> None:
    name = step.partition(" ")[2]
    if problem:
        report.damaged[name] = problem
    else:
        report.kinds[kind] += 1
        report.intact.append(name)


def _free_name(path: Path) -> Path:
    """``<name>.damaged``, or with a number where there is one already."""
    candidates = (path.with_name(f"{path.name}.damaged{number or ''}") for number in range(1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def _messages(order: dict[str, Any], limit: float) -> Iterator[list[str]]:
    """What the examining process says; ``["ended", how]`` where it died or was stopped for saying nothing."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(posfeat_hloc.__file__).parents[1]), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-m", "posfeat_hloc.stores.integrity_scan"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.close()
        rest, last, wait = b"", time.monotonic(), max(limit, _START)
        while True:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, last + wait - time.monotonic()))
            if not ready:
                yield ["ended", f"takes more than {limit:g} s"]
                return
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            last, wait = time.monotonic(), limit
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                yield message
                if message[0] in ("done", "failed"):
                    return
        yield ["ended", f"crashes HDF5 (signal {-process.wait()})" if process.wait() < 0 else "is truncated"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
