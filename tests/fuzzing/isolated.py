"""Read many damaged inputs in a process of its own, which may hang or die; whatever it does is known and named."""

from __future__ import annotations

import mmap
import os
import random
import resource
import select
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from posfeat_hloc.errors import PosfeatError
from tests.fuzzing.mutation import mutate
from tests.fuzzing.readers import Reader

_MEMORY = 2 << 30
"""Bytes that one reader may take on top of what the process has."""


@dataclass
class Findings:
    """What became of the inputs of one reader.

    Attributes:
        tried: number of inputs.
        refused: how many ended in an error with a message.
        wrong: what went wrong (another exception and where, hang, signal) -> number of the first such input, and what
            it said.
    """

    tried: int = 0
    refused: int = 0
    wrong: dict[str, tuple[int, str]] = field(default_factory=dict)


def write_input(reader: Reader, number: int, folder: Path, seed: int = 0) -> None:
    """Make input ``number``: the reader's valid files, one of them damaged."""
    rng = random.Random(f"{reader.name} {seed} {number}")
    files = rng.choice(reader.seeds)
    damaged = rng.choice([name for name in files if reader.is_input(name)])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutate(content, rng) if name == damaged else content)


def try_inputs(
    reader: Reader, numbers: range, folder: Path, limit: float = 5.0, seconds: float = float("inf"), seed: int = 0
) -> Findings:
    """Read inputs one after the other in a forked process, and in another where that one died or hung.

    Args:
        reader: what is tried.
        numbers: of the inputs; the same number gives the same input.
        folder: for the input in hand.
        limit: seconds that an input may take.
        seconds: after which no new input is begun.
    """
    found = Findings()
    first, deadline = numbers.start, time.monotonic() + seconds
    while first < numbers.stop and time.monotonic() < deadline:
        for number, outcome in _outcomes(reader, range(first, numbers.stop), folder, limit, deadline, seed):
            found.tried += 1
            first = number + 1
            if outcome == "refused":
                found.refused += 1
            elif outcome != "read":
                what, _, said = outcome.partition(": ")
                found.wrong.setdefault(what, (number, said))
    return found


def _outcomes(
    reader: Reader, numbers: range, folder: Path, limit: float, deadline: float, seed: int
) -> Iterator[tuple[int, str]]:
    """Number and outcome of inputs, until they are used up or one of them ends the process."""
    receive, send = os.pipe()
    current = mmap.mmap(-1, 8)
    child = os.fork()
    if child == 0:
        os.close(receive)
        _work(reader, numbers, folder, send, current, deadline, seed)
    os.close(send)
    rest = b""
    while True:
        hangs = not select.select([receive], [], [], limit)[0]
        data = b"" if hangs else os.read(receive, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            number, _, outcome = line.decode().partition(" ")
            yield int(number), outcome
    os.close(receive)
    if hangs:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    (in_hand,) = struct.unpack("<q", current[:])
    current.close()
    if hangs:
        yield in_hand, f"hangs for more than {limit:g} s"
    elif os.WIFSIGNALED(status):
        yield in_hand, f"dies by {signal.Signals(os.WTERMSIG(status)).name}"


def _work(
    reader: Reader, numbers: range, folder: Path, send: int, current: mmap.mmap, deadline: float, seed: int
) -> None:
    """Read all inputs and say each outcome; ends the process."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for number in numbers:
            if time.monotonic() > deadline:
                break
            current[:] = struct.pack("<q", number)
            write_input(reader, number, folder, seed)
            os.write(send, f"{number} {outcome_of(reader, folder)}\n".encode())
    finally:
        os._exit(0)


def outcome_of(reader: Reader, folder: Path) -> str:
    """``read``, ``refused``, or what else was raised and where."""
    try:
        reader.read(folder)
    except PosfeatError as error:
        return "refused" if str(error) else f"{type(error).__name__} without a message"
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "posfeat_hloc" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "the reader"
        return f"{type(error).__name__} in {where}: {str(error)[:100]!r}".replace("\n", " ")
    return "read"
