"""Files that hloc writes are read here, and files written here are read by hloc: with hloc's own code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import cv2
import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.stores import FeatureStore, MatchStore

pytest.importorskip("hloc", reason="hloc is not installed", exc_type=ImportError)
io = pytest.importorskip("hloc.utils.io", reason="a package that hloc needs is not installed", exc_type=ImportError)
parsers = pytest.importorskip("hloc.utils.parsers", exc_type=ImportError)

pytestmark = pytest.mark.hloc

NAMES = ["db/1.jpg", "query/night/ü 2.jpg", "a/b-c.jpg", "a-b/c.jpg"]


def random_features(seed: int, n: int = 6) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(n, 8))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = rng.uniform(2000, 4000, (n, 2))  # where half precision would round to whole pixels
    return Features(keypoints.astype(np.float32), rng.random(n).astype(np.float32), descriptors.astype(np.float32))


@pytest.fixture
def features(tmp_path: Path) -> Path:
    with FeatureStore(tmp_path / "f.h5", {"test": "hloc"}) as store:
        for i, name in enumerate(NAMES):
            store.write(name, random_features(i), (4000, 3000 + i), uncertainty=1.25)
        store.commit()
    return tmp_path / "f.h5"


def test_hloc_reads_our_features(features: Path) -> None:
    assert sorted(io.list_h5_names(features)) == sorted(NAMES)
    for i, name in enumerate(NAMES):
        keypoints, uncertainty = io.get_keypoints(features, name, return_uncertainty=True)
        assert_array_equal(keypoints, random_features(i).keypoints)
        assert uncertainty == 1.25


def test_hlocs_matcher_gets_our_features(features: Path) -> None:
    matching = pytest.importorskip("hloc.match_features", exc_type=ImportError)
    data = matching.FeaturePairsDataset([(NAMES[0], NAMES[1])], features, features)[0]
    for i in (0, 1):
        expected = random_features(i)
        assert_array_equal(data[f"keypoints{i}"], expected.keypoints)
        assert_array_equal(data[f"scores{i}"], expected.scores)
        assert_array_equal(data[f"descriptors{i}"], expected.descriptors.T.astype(np.float16))
        assert data[f"image{i}"].shape == (1, 3000 + i, 4000)


def write_matches(path: Path, *pairs: tuple[str, str], count1: int = 100) -> list[Matches]:
    written = []
    with MatchStore(path, {"test": "hloc"}) as store:
        for i, (a, b) in enumerate(pairs):
            matches = Matches(np.array([i, -1, count1 - 1, 5 + i]), np.array([0.5, 0, 1, 0.25], np.float32))
            store.write(a, b, matches, count1)
            written.append(matches)
        store.commit()
    return written


@pytest.mark.parametrize("count1", [100, 40001])
def test_hloc_reads_our_matches(tmp_path: Path, count1: int) -> None:
    path = tmp_path / "m.h5"
    pairs = [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[2]), (NAMES[3], NAMES[1])]
    for (a, b), matches in zip(pairs, write_matches(path, *pairs, count1=count1), strict=True):
        found, scores = io.get_matches(path, a, b)
        assert_array_equal(found, matches.pairs())
        assert_array_equal(scores, [0.5, 1, 0.25])
        found, scores = io.get_matches(path, b, a)
        assert_array_equal(found, matches.pairs()[:, ::-1])
        assert_array_equal(scores, [0.5, 1, 0.25])


def test_hloc_never_reads_the_matches_of_another_pair(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    write_matches(path, (NAMES[2], "x"), (NAMES[3], "x"))
    for name in NAMES[2:]:
        for pair in ((name, "x"), ("x", name)):
            with pytest.raises(KeyError):
                io.get_matches(path, *pair)


def hloc_writes(path: Path, a: str, b: str, indices: list[int], scores: list[float] | None) -> None:
    matching = pytest.importorskip("hloc.match_features", exc_type=ImportError)
    prediction = {"matches0": torch.tensor([indices])}
    if scores is not None:
        prediction["matching_scores0"] = torch.tensor([scores])
    matching.writer_fn((parsers.names_to_pair(a, b), prediction), path)


def test_we_read_hlocs_matches(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    hloc_writes(path, NAMES[0], NAMES[1], [3, -1, 0], [0.5, 0, 0.25])
    hloc_writes(path, NAMES[1], NAMES[2], [-1, -1], [0, 0])
    hloc_writes(path, NAMES[0], NAMES[2], [1, 2], None)  # a matcher without scores
    with MatchStore(path) as store:
        found = store.read(NAMES[0], NAMES[1])
        assert_array_equal(found.indices, [3, -1, 0])
        assert_array_equal(found.scores, [0.5, 0, 0.25])
        assert_array_equal(store.read(NAMES[1], NAMES[0], 5).indices, [2, -1, -1, 0, -1])
        assert_array_equal(store.read(NAMES[1], NAMES[2]).pairs(), np.zeros((0, 2)))
        assert (NAMES[0], NAMES[2]) not in store


def test_hlocs_overflow_is_seen(tmp_path: Path) -> None:
    hloc_writes(tmp_path / "m.h5", "a", "b", [40000, -1], [1, 0])
    with MatchStore(tmp_path / "m.h5") as store, pytest.raises(StoreError, match="overflowed 16 bits"):
        store.read("a", "b")


def test_we_read_hlocs_older_naming(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group(parsers.names_to_pair_old(*NAMES[:2]))
        group["matches0"], group["matching_scores0"] = np.array([1, -1], np.int16), np.array([1, 0], np.float16)
    with MatchStore(tmp_path / "m.h5") as store:
        assert_array_equal(store.read(*NAMES[:2]).indices, [1, -1])


class Extraction:
    """``hloc.extract_features.main`` with a model that returns the same points of every image."""

    def __init__(self, images: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main = pytest.importorskip("hloc.extract_features", exc_type=ImportError).main
        self.images, self.path = images, path
        base = pytest.importorskip("hloc.utils.base_model", exc_type=ImportError).BaseModel
        module = ModuleType("hloc.extractors.points_for_a_test")

        def forward(_: object, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {
                "keypoints": torch.tensor([[[10.25, 20.5], [150.0, 99.0]]]),
                "scores": torch.tensor([[0.5, 0.25]]),
                "descriptors": torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]),
            }

        body = {"__module__": module.__name__, "_init": lambda self, conf: None, "_forward": forward}
        module.Points = type("Points", (base,), body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def run(self, as_half: bool = True) -> None:
        preprocessing: dict[str, Any] = {"grayscale": True, "resize_max": 200}
        conf = {"output": "x", "model": {"name": "points_for_a_test"}, "preprocessing": preprocessing}
        self.main(conf, self.images, as_half=as_half, feature_path=self.path)


@pytest.fixture
def extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extraction:
    (tmp_path / "images" / "db 1").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "db 1" / "ü.png"), np.zeros((200, 400), np.uint8))
    return Extraction(tmp_path / "images", tmp_path / "f.h5", monkeypatch)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize("as_half", [True, False])
def test_we_read_hlocs_features(extraction: Extraction, as_half: bool) -> None:
    extraction.run(as_half)
    with FeatureStore(extraction.path) as store:
        assert store.names() == ["db 1/ü.png"]
        found = store.read("db 1/ü.png")
        keypoints = np.array([[21, 41.5], [300.5, 198.5]])  # twice as large: (x + 0.5) * 2 - 0.5
        assert_array_equal(found.keypoints, keypoints)
        assert_array_equal(found.scores, [0.5, 0.25])
        assert_array_equal(found.descriptors, [[1, 0, 0], [0, 1, 0]])
        assert store.image_size("db 1/ü.png") == (400, 200)
        assert store.uncertainty("db 1/ü.png") == 2
        assert store.digest("db 1/ü.png") == ""
    with pytest.raises(StoreError, match="was not written by posfeat_hloc"):
        FeatureStore(extraction.path, {"test": "hloc"})


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.parametrize("datasets", range(4))
def test_group_that_hloc_left_unfinished_does_not_count(extraction: Extraction, datasets: int) -> None:
    real, left = h5py.Group.create_dataset, datasets

    def create_dataset(*args: Any, **kwargs: Any) -> h5py.Dataset:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with mock.patch.object(h5py.Group, "create_dataset", create_dataset), pytest.raises(KeyboardInterrupt):
        extraction.run()
    names = io.list_h5_names(extraction.path)
    assert names == (["db 1/ü.png"] if datasets else [])  # hloc would take it for done
    with FeatureStore(extraction.path) as store:
        assert store.names() == []
