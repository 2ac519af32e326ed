"""On what is computed: devices by their names, several computations at a time, and how OpenMP's threads wait."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from posfeat_hloc.errors import ConfigurationError

Item = TypeVar("Item")
Result = TypeVar("Result")


def choose_device(device: str) -> str:
    """``auto`` is ``cuda`` where torch finds a GPU, otherwise ``cpu``; ConfigurationError for one that is not there."""
    import torch  # not before sleep_while_waiting

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device {device!r} cannot be used ({reason}); use auto or cpu") from error
    return device


@contextmanager
def computing_threads(workers: int, each: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Threads whose operations use ``each`` of torch's own threads; what waits is dropped when the block fails.

    Whole computations side by side keep all cores busy: a single one is often left with one core by steps that torch
    does not share out.
    """
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # torch takes the last number set as that of all later threads


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Result, None, None]:
    """``map(work, items)`` in the threads of a pool; at most ``ahead`` items are begun before a result is taken."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


POLICY = "OMP_WAIT_POLICY"

_lock = threading.Lock()
_state = {"by environment": False, "by more threads": False}


def sleep_while_waiting() -> None:
    """Ask OpenMP for it, which looks once, when torch is loaded; a policy that the user has set is kept."""
    if "torch" not in sys.modules:
        os.environ.setdefault(POLICY, "PASSIVE")
    _state["by environment"] = os.environ.get(POLICY, "").upper() == "PASSIVE"


def spin_shortly() -> None:
    """The same where torch was loaded first, as hloc does, and the user has set no policy; does nothing again.

    GNU's OpenMP counts to 1000 only, some microseconds, while it has more threads than the process may use cores. So it
    gets enough of them, which sleep: they belong to a thread that computed once and never will again.
    """
    import torch

    with _lock:
        if _state["by environment"] or _state["by more threads"] or POLICY in os.environ:
            return
        _state["by more threads"] = True
        ready = threading.Event()
        count = max(2, usable_cores() - torch.get_num_threads() + 2)
        threading.Thread(target=_own_threads, args=(count, ready), name="asleep", daemon=True).start()
        ready.wait()


def waits_asleep() -> bool:
    """Whether waiting threads leave their cores to others."""
    return any(_state.values())


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own_threads(count: int, ready: threading.Event) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    torch.zeros(1 << 20).add_(1)  # large enough to be shared out
    torch.set_num_threads(before)  # torch takes the last number set as that of all later threads
    ready.set()
    threading.Event().wait()
