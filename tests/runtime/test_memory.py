"""Matching does not grow with the number of pairs, whatever ran before; amounts of memory."""

import os
import platform
import subprocess
import sys

import pytest

from posfeat_hloc.runtime.memory import memory_size

GROWTH = """
import tempfile
from pathlib import Path
import numpy as np
import torch
from posfeat_hloc import match_features
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

torch.set_num_threads(1)
for _ in range(3):  # large freed blocks, as extraction leaves them
    torch.empty(31 << 20, dtype=torch.uint8).fill_(1)
rng = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as folder:
    features = Path(folder) / "features.h5"
    names = [f"{i}.jpg" for i in range(11)]
    with FeatureStore(features, {}) as store:
        for name in names:
            descriptors = rng.standard_normal((3000, 128)).astype(np.float32)
            descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
            keypoints = rng.uniform(0, 900, (3000, 2)).astype(np.float32)
            store.write(name, Features(keypoints, np.ones(3000, np.float32), descriptors), (900, 900))
        store.commit()
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1:]]
    conf = {"output": "m", "model": {"name": "nearest"}}
    sizes = []
    for last in (10, 20, 55):
        match_features.match(conf, pairs[:last], features, Path(folder) / "matches.h5", "cpu", progress=False)
        sizes.append(resident())
print(*sizes)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed blocks")
@pytest.mark.slow
def test_memory_does_not_grow_with_pairs() -> None:
    command, environment = [sys.executable, "-c", GROWTH], os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    first, second, last = map(float, done.stdout.split())
    assert last - second < 12, done.stdout  # 35 pairs; descriptors of one more image are half a megabyte
    assert second - first < 12, done.stdout


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500M", 500 << 20), ("2G", 2 << 30), ("1.5 GiB", 0), ("1.5GiB", 3 << 29), ("4kb", 4096)],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    if size:
        assert memory_size(text) == size
    else:
        with pytest.raises(ValueError, match=f"'{text}' is not an amount of memory"):
            memory_size(text)


@pytest.mark.parametrize("text", ["", "0", "-1G", "much", "2X", "1e9"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ValueError, match="like 500M or 2G"):
        memory_size(text)
