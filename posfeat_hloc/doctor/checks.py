"""Checks of the CPU and the GPUs, of stored weights, and of reading and writing files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pycolmap
import torch

from posfeat_hloc import weights
from posfeat_hloc.doctor.requirements import Finding
from posfeat_hloc.errors import Option, PosfeatError, WeightsError
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import has_fast_bf16
from posfeat_hloc.runtime.computation import POLICY, usable_cores
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.weights.conversion import architecture_of, load_as


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
    """A check for each CUDA device, or one that reports why there is none."""
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


_GET = "posfeat-hloc weights get"


def weight_checks() -> list[tuple[str, Callable[[], Finding]]]:
    """A check for each file of weights that is here or must be, and one for those that can be downloaded."""
    found: list[tuple[str, Callable[[], Finding]]] = [(name, partial(check_bundled, name)) for name in weights.BUNDLED]
    here = [name for name in weights.PUBLIC if weights.public_path(name).is_file()]
    found += [(name, partial(check_public, name)) for name in here]
    missing = len(weights.PUBLIC) - len(here)
    if missing:
        text = f"{missing} not downloaded; none is needed (posfeat-hloc weights list)"
        found.append(("others, public", lambda: Finding("ok", text)))
    return found


def check_bundled(name: str) -> Finding:
    """Weights of the package: hash, and loaded as what they are."""
    try:
        identity = load_as(architecture_of(name), name)
    except WeightsError as error:
        return Finding("fail", str(error), "pip install --force-reinstall posfeat-hloc, from where you installed it")
    return Finding("ok", f"in the package, {identity.parameters / 1e6:.2f} M parameters, hash verified")


def check_public(name: str) -> Finding:
    """A downloaded copy; a damaged one is fetched again when it is used."""
    path = weights.public_path(name)
    if not weights.is_published(path, name):
        return Finding("warn", f"{path} is not the published file", f"{_GET} {name}")
    try:
        identity = load_as(architecture_of(name), str(path))
    except WeightsError as error:
        return Finding("warn", str(error), f"{_GET} {name}")
    return Finding("ok", f"downloaded, {identity.parameters / 1e6:.2f} M parameters, hash as published")


def check_features() -> Finding:
    """Features written, committed and read again."""
    rng = np.random.default_rng(0)
    keypoints, scores = rng.uniform(0, 999, (50, 2)), rng.random(50)
    descriptors = np.eye(128)[:50]
    features = Features(keypoints.astype(np.float32), scores.astype(np.float32), descriptors.astype(np.float32))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        try:
            with FeatureStore(path, {"model": {}}) as store:
                store.write("folder/a.jpg", features, (1000, 1000))
                store.commit()
            with FeatureStore(path) as store:
                read = store.read("folder/a.jpg")
        except (PosfeatError, OSError) as error:
            return Finding("fail", str(error), "free some space in the folder of temporary files, or set TMPDIR")
    arrays = ((features.keypoints, read.keypoints), (features.scores, read.scores), (descriptors, read.descriptors))
    if not all(np.array_equal(written, found) for written, found in arrays):
        return Finding("fail", "the values read differ from those written", "pip install --force-reinstall h5py")
    return Finding("ok", "written and read again")


def check_database() -> Finding:
    """A COLMAP database with one camera, written and read again."""
    repair = "pip install --force-reinstall pycolmap"
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 800.0, 640, 480)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "database.db"
        try:
            with pycolmap.Database.open(path) as database:
                number = database.write_camera(camera)
            with pycolmap.Database.open(path) as database:
                read = database.read_camera(number)
        except (OSError, RuntimeError, ValueError, AttributeError, TypeError) as error:  # and another API
            return Finding("fail", f"pycolmap's database does not work ({type(error).__name__}: {error})", repair)
    if (read.width, read.height, list(read.params)) != (640, 480, [800.0, 320.0, 240.0, 0.0]):
        return Finding("fail", "the values read differ from those written", repair)
    return Finding("ok", "written and read again")
