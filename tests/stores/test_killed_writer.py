"""A process that writes features is killed at random moments; what it leaves is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from posfeat_hloc.stores import FeatureStore

WRITE_FEATURES_FOR_EVER = """
import sys
from pathlib import Path
import numpy as np
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

store, generation = FeatureStore(Path(sys.argv[1]), {"test": "kill"}), int(sys.argv[2])
while True:
    generation += 1
    n = 2000 + generation % 300
    keypoints, scores = np.full((n, 2), generation, np.float32), np.full(n, generation, np.float32)
    features = Features(keypoints, scores, np.full((n, 128), generation % 1000, np.float32))
    store.write(f"folder/ä {generation % 7}.jpg", features, (generation, n), source=str(generation))
    store.commit()
    print(generation, flush=True)
"""
"""Run in a process that will be killed: overwrites seven groups in turn and says each commit."""


def test_killed_writer_leaves_whole_groups(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    rng = random.Random(0)
    generation = 0
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITE_FEATURES_FOR_EVER, str(path), str(generation)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        assert int(child.stdout.readline()) == generation + 1
        time.sleep(rng.uniform(0, 0.2))
        child.send_signal(signal.SIGKILL)
        lines = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        generation = check_generations(path, said=int(lines[-1]) if lines else generation + 1)
    assert generation >= 10


def check_generations(path: Path, said: int) -> int:
    """Every group is whole, and together they are the last seven; the last may have been saved but not said."""
    found = {}
    with FeatureStore(path) as store:
        for name in store.names():
            features, (generation, n) = store.read(name), store.image_size(name)
            assert name == f"folder/ä {generation % 7}.jpg"
            assert len(features) == n == 2000 + generation % 300
            assert (features.keypoints == generation).all()
            assert (features.scores == generation).all()
            assert (features.descriptors == generation % 1000).all()
            assert store.is_current(name, str(generation))
            found[name] = generation
    last = max(found.values(), default=0)
    assert last in (said, said + 1)
    assert sorted(found.values()) == list(range(max(1, last - 6), last + 1))
    return last
