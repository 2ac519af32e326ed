"""A grown map's features are those of its map, also after the map was made anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posfeat_hloc.features import Features
from posfeat_hloc.localization.register import copy_features
from posfeat_hloc.stores import FeatureStore


def write(path: Path, **values: float) -> None:
    with FeatureStore(path, {}) as store:
        for name, value in values.items():
            keypoints = np.full((3, 2), value, np.float32)
            store.write(name, Features(keypoints, np.ones(3, np.float32), np.eye(3, dtype=np.float32)), (9, 9))
        store.commit()


def read(path: Path) -> dict[str, float]:
    with FeatureStore(path) as store:
        return {name: float(store.keypoints(name)[0, 0]) for name in store.names()}


def test_a_copy_is_kept_until_the_map_changes(tmp_path: Path) -> None:
    first, second = tmp_path / "map.h5", tmp_path / "grown.h5"
    write(first, a=1, b=2)
    copy_features(first, second, ["a", "b"])
    assert read(second) == {"a": 1, "b": 2}
    write(second, c=3)
    copy_features(first, second, ["a", "b"])
    assert read(second) == {"a": 1, "b": 2, "c": 3}
    write(first, b=5)
    copy_features(first, second, ["a"])  # b is not in the map
    assert read(second) == {"a": 1, "b": 2, "c": 3}
    copy_features(first, second, ["a", "b"])
    assert read(second) == {"a": 1, "b": 5}
