"""How OpenMP's threads wait for each other: asleep, so that they keep no core from whoever computes.

By default a waiting thread counts to 300 000 before it sleeps (GNU). As soon as anything else runs, it does so on the
core that the thread it waits for would need: two threads on two cores then take 4 to 20 times as long as one.
"""

from __future__ import annotations

import os
import sys
import threading

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
