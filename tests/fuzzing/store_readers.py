"""Feature, match and global descriptor files, ours and hloc's, read and added to."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from posfeat_hloc.features import Features, Matches
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore, MatchStore
from posfeat_hloc.stores.journal import journal_path
from tests.fuzzing.readers import Files, Reader, files_of

CONFIGURATION = {"model": {"name": "sift"}, "weights": "", "preprocessing": {}}
NAMES = ("a.jpg", "b/c.jpg", "b/d.jpg")
_RNG = np.random.default_rng(0)


def features(count: int = 40) -> Features:
    keypoints = _RNG.uniform(0, 100, (count, 2)).astype(np.float32)
    return Features(keypoints, _RNG.random(count, np.float32), _RNG.normal(size=(count, 8)).astype(np.float32))


def write_features(folder: Path) -> None:
    with FeatureStore(folder / "f.h5", CONFIGURATION) as store:
        for name in NAMES:
            store.write(name, features(), (100, 100), source="1-2")
        store.commit()


def write_matches(folder: Path) -> None:
    with MatchStore(folder / "m.h5", {"model": {"name": "nearest"}}) as store:
        for i, name0 in enumerate(NAMES):
            for name1 in NAMES[i + 1 :]:
                matches = Matches(_RNG.integers(-1, 40, 40), _RNG.random(40, np.float32))
                store.write(name0, name1, matches, 40, ("digest0", "digest1"))
        store.commit()


def write_descriptors(folder: Path) -> None:
    with GlobalDescriptorStore(folder / "g.h5", CONFIGURATION) as store:
        store.vocabulary = _RNG.normal(size=(4, 8)).astype(np.float32)
        for name in NAMES:
            store.write(name, _RNG.normal(size=32).astype(np.float32), "1-2")
        store.commit()


def write_hloc(folder: Path) -> None:
    """As hloc's loops write features."""
    with h5py.File(folder / "f.h5", "w", libver="latest") as file:
        for name in NAMES:
            group = file.create_group(name)
            for key, value in (
                ("keypoints", _RNG.uniform(0, 99, (40, 2)).astype(np.float16)),
                ("descriptors", _RNG.normal(size=(8, 40)).astype(np.float16)),
                ("scores", _RNG.random(40).astype(np.float16)), ("image_size", np.array([100, 100])),
            ):  # fmt: skip
                group.create_dataset(key, data=value)
            group["keypoints"].attrs["uncertainty"] = 1.0


def with_journal(write: object, name: str) -> Files:
    """A file with a complete journal beside it, which makes the same file anew."""
    files = files_of(write)  # type: ignore[arg-type]
    import hashlib
    import struct

    body = struct.pack("<QQ", 0, len(files[name])) + files[name]
    header = struct.pack("<8sQQ32s", b"PFJOURN1", len(body), len(files[name]), hashlib.sha256(body).digest())
    return {name: files[name][:500], journal_path(Path(name)).name: header + body}


def readers() -> list[Reader]:
    return [
        Reader("features", [files_of(write_features), files_of(write_hloc)], _features),
        Reader("matches", [files_of(write_matches)], _matches),
        Reader("global descriptors", [files_of(write_descriptors)], _descriptors),
        Reader("features, added to", [files_of(write_features)], _add_features),
        Reader("matches, added to", [files_of(write_matches)], _add_matches),
        Reader("journal", [with_journal(write_features, "f.h5")], _features, beside=("f.h5",)),
    ]


def _features(folder: Path) -> None:
    with FeatureStore(folder / "f.h5") as store:
        _ = store.configuration
        for name in store.names():
            found = store.read(name)
            assert len(found.keypoints) == len(found.descriptors)
            store.image_size(name)
            store.uncertainty(name)
            store.digest(name)
            store.is_current(name, "1-2")


def _matches(folder: Path) -> None:
    with MatchStore(folder / "m.h5") as store:
        for i, name0 in enumerate(NAMES):
            for name1 in NAMES[i + 1 :]:
                store.is_current(name0, name1, ("digest0", "digest1"))
                if (name0, name1) in store:
                    store.read(name0, name1)
                    store.read(name1, name0, 40)


def _descriptors(folder: Path) -> None:
    with GlobalDescriptorStore(folder / "g.h5") as store:
        store.vocabulary_for(CONFIGURATION)
        store.read(store.names())


def _add_features(folder: Path) -> None:
    with FeatureStore(folder / "f.h5", CONFIGURATION) as store:
        for name in (*NAMES, "e.jpg"):
            if not store.is_current(name, "1-2"):
                store.write(name, features(), (100, 100), source="1-2")
                store.commit()


def _add_matches(folder: Path) -> None:
    with MatchStore(folder / "m.h5", {"model": {"name": "nearest"}}) as store:
        for name0, name1 in ((NAMES[0], NAMES[1]), (NAMES[2], NAMES[1])):
            if not store.is_current(name0, name1, ("digest0", "digest1")):
                store.write(name0, name1, Matches.empty(40), 40, ("digest0", "digest1"))
                store.commit()
