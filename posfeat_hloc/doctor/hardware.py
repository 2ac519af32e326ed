"""What the processor and the GPUs can do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial

import pycolmap
import torch

from posfeat_hloc.doctor.findings import Finding
from posfeat_hloc.errors import Option
from posfeat_hloc.networks.inference import has_fast_bf16
from posfeat_hloc.runtime.computation import POLICY, usable_cores


def check_threads() -> Finding:
    """Threads that torch uses, against the cores this process may use, and how they wait for each other."""
    cores, threads = usable_cores(), torch.get_num_threads()
    text = f"{threads} of torch on {cores} core{'s' if cores > 1 else ''}"
    policy = os.environ.get(POLICY)
    if threads > 1 and policy is not None and policy.upper() != "PASSIVE":
        slow = f"{POLICY}={policy} keeps waiting threads busy; extraction takes many times as long as"
        return Finding("warn", f"{text}: {slow} with one thread when anything else runs", f"unset {POLICY}")
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit is not None and threads < cores // 2:
        return Finding("ok", f"{text}, set by OMP_NUM_THREADS={limit}")
    return Finding("ok", f"{text}; waiting threads sleep" if threads > 1 else text)


def check_bf16() -> Finding:
    """Whether networks run in half precision on the CPU."""
    if has_fast_bf16(torch.device("cpu")):
        return Finding("ok", "computed by the CPU; networks use it")
    return Finding("ok", "not computed by this CPU; networks run in float32")


def device_checks() -> list[tuple[str, Callable[[], Finding]]]:
    """A check for each CUDA device, or one that says why there is none."""
    if not torch.cuda.is_available():
        return [("CUDA", check_without_cuda)]
    return [(f"CUDA {i}", partial(check_device, i)) for i in range(torch.cuda.device_count())]


def check_without_cuda() -> Finding:
    """Whether there is a GPU after all."""
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", "no device; everything runs on the CPU")
    built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
    return Finding("warn", f"a driver is installed, but torch {built} and finds no device", _CUDA_ADVICE)


_CUDA_ADVICE = "install torch for your driver (pytorch.org, Get Started); all runs on the CPU until then"


def check_device(number: int) -> Finding:
    """A small convolution on one device, compared with the true sum."""
    device = torch.device("cuda", number)
    name = torch.cuda.get_device_name(device)
    try:
        a = torch.arange(64, dtype=torch.float32, device=device).reshape(1, 1, 8, 8)
        right = torch.nn.functional.conv2d(a, torch.ones(1, 1, 8, 8, device=device)).item() == 64 * 63 / 2
        free, total = (value / 2**30 for value in torch.cuda.mem_get_info(device))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        return Finding("fail", f"{name} cannot be used ({reason})", f"{_CUDA_ADVICE}: {Option('device', 'cpu')}")
    if not right:
        return Finding("fail", f"{name} computes wrong numbers", f"do not use it: {Option('device', 'cpu')}")
    bf16 = "bf16" if has_fast_bf16(device) else "no bf16"
    colmap = "" if pycolmap.has_cuda else "; pycolmap is built without CUDA and runs on the CPU"
    return Finding("ok", f"{name}, {free:.0f} of {total:.0f} GiB free, {bf16}{colmap}")
