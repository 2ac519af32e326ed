"""Threads that wait sleep: seen by the time that waiting costs, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WAITING = """
import os, sys, time
{before}
import torch
torch.set_num_threads(2)
{after}
x = torch.zeros(1 << 18)
x.add_(1)
start = time.process_time()
for _ in range(30):
    x.add_(1)
    time.sleep(0.003)
print(time.process_time() - start, torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY"))
"""
SPIN = (
    "from posfeat_hloc.runtime.openmp import spin_shortly, waits_asleep\nspin_shortly()\nspin_shortly()\n"
    "assert waits_asleep()"
)


def run(before: str = "", after: str = "", **environment: str) -> tuple[float, int, str]:
    """Seconds of CPU, threads, and the policy in the environment."""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    # -S -E: nothing that the interpreter's own folder sets before the code runs
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + WAITING.format(before=before, after=after)
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=300, check=True)
    seconds, threads, policy = done.stdout.split()
    return float(seconds), int(threads), policy


def test_the_policy_is_set_before_torch_is_loaded_unless_the_user_has_one() -> None:
    assert run("import posfeat_hloc.runtime.openmp")[2] == "PASSIVE"
    assert run("import posfeat_hloc.runtime.openmp", OMP_WAIT_POLICY="ACTIVE")[2] == "ACTIVE"
    assert run("import torch, posfeat_hloc.runtime.openmp")[2] == "None"  # too late: OpenMP would not see it


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP comes with torch on Linux only")
def test_waiting_costs_little_whichever_was_loaded_first() -> None:
    counting, threads, _ = run()
    asleep = run("import posfeat_hloc.runtime.openmp")[0]
    shortly, threads_after, _ = run(after=SPIN)
    assert threads_after == threads == 2  # and all later computations have as many as before
    if counting < 0.05:
        pytest.skip("torch's threads do not count while they wait here")
    assert max(asleep, shortly) < counting / 2
