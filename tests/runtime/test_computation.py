"""Which torch device is taken, and what is said of one that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extract_features import extract
from posfeat_hloc.runtime import computation
from posfeat_hloc.runtime.computation import computing_threads, in_order
from tests.test_extract_features import CONF, Brightest, brightest, content, fill, run


def test_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert computation.choose_device("auto") == expected
        assert computation.choose_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"device '{device}' cannot be used .*; use auto or cpu"):
        computation.choose_device(device)


__all__ = ["brightest"]  # a fixture


@given(st.lists(st.integers(), max_size=20), st.integers(1, 4), st.integers(0, 6))
def test_results_come_in_the_order_of_the_items(items: list[int], workers: int, ahead: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        assert list(in_order(pool, lambda item: 2 * item, items, ahead)) == [2 * item for item in items]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_only_so_many_items_are_taken_before_a_result(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        for result in in_order(pool, lambda item: item, items(), ahead):
            assert len(taken) == min(result + ahead + 1, 10)


def test_an_error_is_raised_where_its_result_would_be_and_the_rest_is_dropped() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        time.sleep(0.01)
        done.append(item)
        return item

    results: list[int] = []
    with pytest.raises(ValueError, match="two"), computing_threads(1) as pool:
        results.extend(in_order(pool, work, range(100), ahead=50))
    assert results == [0, 1]
    assert len(done) < 60  # not all of those that were begun


@pytest.mark.parametrize(("workers", "each"), [(1, 3), (2, 1), (3, 2)])
def test_each_computation_has_its_share_of_threads(workers: int, each: int) -> None:
    start = threading.Barrier(workers)
    before = torch.get_num_threads()

    def work(_: int) -> tuple[int, int]:
        start.wait(timeout=10)  # all of them at the same time
        return threading.get_ident(), torch.get_num_threads()

    with computing_threads(workers, each) as pool:
        found = list(in_order(pool, work, range(workers), ahead=workers))
    assert len({ident for ident, _ in found}) == workers
    assert {count for _, count in found} == {each}
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:  # a new thread is not left with what the last ones had
        assert pool.submit(torch.get_num_threads).result() == before


@pytest.mark.parametrize(
    ("resize_max", "concurrent", "at_a_time"), [(64, True, 2), (64, False, 1), (None, True, 1), (4096, True, 1)]
)
def test_a_cpu_extracts_images_side_by_side_unless_memory_forbids(
    tmp_path: Path,
    brightest: Brightest,
    monkeypatch: pytest.MonkeyPatch,
    resize_max: int | None,
    concurrent: bool,
    at_a_time: int,
) -> None:
    names = [f"{i}.png" for i in range(6)]
    images = fill(tmp_path / "images", *names)
    run(images, tmp_path / "alone.h5")
    lock, inside = threading.Lock(), 0
    most: list[int] = []

    def enter() -> None:
        nonlocal inside
        with lock:
            inside += 1
            most.append(inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    brightest.before_each = enter
    brightest.concurrent = concurrent
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    conf = CONF | {"preprocessing": {"grayscale": True, "resize_max": resize_max}}
    try:
        assert extract(conf, images, tmp_path / "f.h5", progress=False).extracted == names
    finally:
        torch.set_num_threads(before)
    assert max(most) == at_a_time
    assert content(tmp_path / "f.h5") == content(tmp_path / "alone.h5")


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
    "from posfeat_hloc.runtime.computation import spin_shortly, waits_asleep\nspin_shortly()\nspin_shortly()\n"
    "assert waits_asleep()"
)


def run_python(before: str = "", after: str = "", **environment: str) -> tuple[float, int, str]:
    """Seconds of CPU, threads, and the policy in the environment."""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    # -S -E: nothing that the interpreter's own folder sets before the code runs
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + WAITING.format(before=before, after=after)
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=300, check=True)
    seconds, threads, policy = done.stdout.split()
    return float(seconds), int(threads), policy


def test_the_policy_is_set_before_torch_is_loaded_unless_the_user_has_one() -> None:
    assert run_python("import posfeat_hloc.runtime.computation")[2] == "PASSIVE"
    assert run_python("import posfeat_hloc.runtime.computation", OMP_WAIT_POLICY="ACTIVE")[2] == "ACTIVE"
    assert (
        run_python("import torch, posfeat_hloc.runtime.computation")[2] == "None"
    )  # too late: OpenMP would not see it


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP comes with torch on Linux only")
def test_waiting_costs_little_whichever_was_loaded_first() -> None:
    counting, threads, _ = run_python()
    asleep = run_python("import posfeat_hloc.runtime.computation")[0]
    shortly, threads_after, _ = run_python(after=SPIN)
    assert threads_after == threads == 2  # and all later computations have as many as before
    if counting < 0.05:
        pytest.skip("torch's threads do not count while they wait here")
    assert max(asleep, shortly) < counting / 2
