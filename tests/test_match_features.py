"""The matching loop: every pair once, what changed again, whatever fits into memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc import confs, match_features
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.extract_features import extract
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.match_features import MatchingReport, match
from posfeat_hloc.matchers.descriptor_cache import DescriptorCache
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.stores import FeatureStore, MatchStore

CONF = confs.matchers["NN-mutual"]
CONFIGURATION = {"features": "test"}

COUNTS = {"a": 40, "b/c d": 40, "ü": 25, "e": 1, "none": 0}
"""Images and their numbers of features."""

Pair = tuple[str, str]


def random_features(seed: int, n: int) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(n, 16))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(
        rng.uniform(0, 100, (n, 2)).astype(np.float32), np.ones(n, np.float32), descriptors.astype(np.float32)
    )


def write(path: Path, features: dict[str, Features]) -> Path:
    with FeatureStore(path, CONFIGURATION) as store:
        for name, found in features.items():
            store.write(name, found, (100, 100))
        store.commit()
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write(tmp_path / "f.h5", {name: random_features(i, n) for i, (name, n) in enumerate(COUNTS.items())})


def expected_matches(features: Path, a: str, b: str) -> Matches:
    """Mutual nearest neighbours of what is stored, in double precision, one by one."""
    with FeatureStore(features) as store:
        one, two = (store.descriptors(name).astype(np.float64) for name in (a, b))
    result = Matches.empty(len(one))
    cosines = one @ two.T
    for i in range(len(one)):
        if len(two) and cosines[:, (j := int(cosines[i].argmax()))].argmax() == i:
            result.indices[i], result.scores[i] = j, (cosines[i, j] + 1) / 2
    return result


def content(path: Path, pairs: list[Pair]) -> list[tuple[bytes, bytes]]:
    with MatchStore(path) as store:
        found = [store.read(a, b) for a, b in pairs]
    return [(matches.indices.tobytes(), matches.scores.tobytes()) for matches in found]


def run(pairs: list[Pair], features: Path, path: Path, conf: dict[str, Any] = CONF, **options: Any) -> MatchingReport:
    return match(conf, pairs, features, path, device="cpu", progress=False, **options)


def mark(path: Path) -> None:
    """Give all matches a score that no matcher gives, to see which are kept."""
    with h5py.File(path, "r+") as file:

        def set_score(_: str, item: object) -> None:
            if isinstance(item, h5py.Group) and "matching_scores0" in item:
                item["matching_scores0"][...] = 7

        file.visititems(set_score)


def marked(path: Path, pairs: list[Pair]) -> set[Pair]:
    with MatchStore(path) as store:
        return {(a, b) for a, b in pairs if (store.read(a, b).scores == 7).all()}


PAIRS = exhaustive_pairs(COUNTS)


def test_every_pair_gets_the_matches_of_its_descriptors(tmp_path: Path, features: Path) -> None:
    report = run(PAIRS, features, tmp_path / "m.h5")
    assert report == MatchingReport(matched=10, reused=0)
    matched = 0
    with MatchStore(tmp_path / "m.h5") as store:
        for a, b in PAIRS:
            expected, found = expected_matches(features, a, b), store.read(a, b)
            assert_array_equal(found.indices, expected.indices)
            assert_allclose(found.scores, expected.scores, atol=1e-3)
            matched += len(found.pairs())
            assert len(found.indices) == COUNTS[a]
            # also the empty ones are seen from the second image
            back = store.read(b, a, COUNTS[b])
            assert_array_equal(back.indices, expected_matches(features, b, a).indices)
    assert matched > 40


def test_pairs_are_matched_once(tmp_path: Path, features: Path) -> None:
    pairs = [("a", "ü"), ("ü", "a"), ("a", "ü"), ("a", "a")]
    assert run(pairs, features, tmp_path / "m.h5") == MatchingReport(matched=1, reused=0)
    with MatchStore(tmp_path / "m.h5") as store:
        assert ("a", "a") not in store
        assert_array_equal(store.read("a", "ü").indices, expected_matches(features, "a", "ü").indices)


def test_second_run_matches_nothing(tmp_path: Path, features: Path) -> None:
    path = tmp_path / "m.h5"
    run(PAIRS[:4], features, path)
    mark(path)
    assert run(PAIRS, features, path) == MatchingReport(matched=6, reused=4)
    assert marked(path, PAIRS) == {*PAIRS[:4], ("none", "ü")}  # nothing can be marked there
    before = path.read_bytes()
    assert run(PAIRS, features, path) == MatchingReport(matched=0, reused=10)
    assert path.read_bytes() == before
    assert run(PAIRS, features, path, overwrite=True) == MatchingReport(matched=10, reused=0)
    assert_array_equal(
        [c[0] for c in content(path, PAIRS)], [expected_matches(features, a, b).indices.tobytes() for a, b in PAIRS]
    )


def test_changed_features_are_matched_again(tmp_path: Path, features: Path) -> None:
    path = tmp_path / "m.h5"
    images = ["a", "b/c d", "ü"]
    pairs = exhaustive_pairs(images)
    run(pairs, features, path)
    mark(path)
    write(features, {"ü": random_features(99, 30)})
    assert run(pairs, features, path) == MatchingReport(matched=2, reused=1)
    assert marked(path, pairs) == {("a", "b/c d")}
    with MatchStore(path) as store:
        assert_array_equal(store.read("a", "ü").indices, expected_matches(features, "a", "ü").indices)
    write(features, {"ü": random_features(99, 30)})  # the same again
    assert run(pairs, features, path) == MatchingReport(matched=0, reused=3)


def test_replaced_photograph_is_extracted_and_matched_again(
    tmp_path: Path, texture: Callable[..., NDArray[np.uint8]]
) -> None:
    images, features, path = tmp_path / "images", tmp_path / "f.h5", tmp_path / "m.h5"
    images.mkdir()
    names = ["a.png", "b.png", "c.png"]
    scene = texture(0, 300, 200)
    for i, name in enumerate(names):
        Image.fromarray(scene[:, 20 * i : 20 * i + 240]).save(images / name)
    pairs = exhaustive_pairs(names)

    def extract_and_match() -> tuple[list[str], MatchingReport]:
        report = extract(confs.extractors["sift"], images, features, device="cpu", progress=False)
        return report.extracted, run(pairs, features, path, confs.matchers["NN-ratio"])

    def shift(a: str, b: str) -> NDArray[np.float32]:
        with FeatureStore(features) as store, MatchStore(path) as matches:
            found = matches.read(a, b).pairs()
            assert len(found) > 50
            return np.median(store.keypoints(a)[found[:, 0]] - store.keypoints(b)[found[:, 1]], axis=0)

    assert extract_and_match() == (names, MatchingReport(matched=3, reused=0))
    assert_allclose([shift(*pair) for pair in pairs], [(20, 0), (40, 0), (20, 0)], atol=0.1)
    mark(path)
    Image.fromarray(scene[10:, 30:]).save(images / "b.png")
    assert extract_and_match() == (["b.png"], MatchingReport(matched=2, reused=1))
    assert marked(path, pairs) == {("a.png", "c.png")}
    assert_allclose(shift("a.png", "b.png"), (30, 10), atol=0.1)
    assert_allclose(shift("b.png", "c.png"), (10, -10), atol=0.1)
    time = (images / "b.png").stat().st_mtime_ns + 10**9
    os.utime(images / "b.png", ns=(time, time))  # extracted again, with the same features: nothing to match
    assert extract_and_match() == (["b.png"], MatchingReport(matched=0, reused=3))


def test_interrupted_run_is_continued(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = match_features.matchers.match_batch, 0

    def interrupt(*args: Any) -> list[Matches]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(match_features.matchers, "match_batch", interrupt)
    monkeypatch.setattr(match_features, "COMMIT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        run(PAIRS, features, tmp_path / "m.h5")
    assert run(PAIRS, features, tmp_path / "m.h5") == MatchingReport(matched=6, reused=4)
    run(PAIRS, features, tmp_path / "whole.h5")
    assert content(tmp_path / "m.h5", PAIRS) == content(tmp_path / "whole.h5", PAIRS)


@pytest.mark.parametrize("memory", [0, 1, 40 * 16 * 2 * 2, 40 * 16 * 2 * 2 + 1])
def test_any_memory_gives_the_same(tmp_path: Path, features: Path, memory: int) -> None:
    run(PAIRS, features, tmp_path / "whole.h5")
    run(PAIRS, features, tmp_path / "m.h5", memory=memory)
    assert content(tmp_path / "m.h5", PAIRS) == content(tmp_path / "whole.h5", PAIRS)


@pytest.mark.parametrize(("fit", "most"), [(30, 16), (10, 16 + 8), (6, 16 + 12 + 8 + 4)])
def test_descriptors_are_read_by_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: int, most: int
) -> None:
    names = {f"{i:02}": random_features(i, 10) for i in range(16)}
    features = write(tmp_path / "f.h5", names)
    reads: list[str] = []
    real = FeatureStore.descriptors
    monkeypatch.setattr(FeatureStore, "descriptors", lambda store, name: (reads.append(name), real(store, name))[1])
    assert run(exhaustive_pairs(names), features, tmp_path / "m.h5", memory=fit * 10 * 16 * 2).matched == 120
    assert 16 <= len(reads) <= most
    reads.clear()
    assert run(exhaustive_pairs(names), features, tmp_path / "m.h5").reused == 120
    assert reads == []


def test_cache_forgets_the_least_recently_used(features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {name: n * 16 * 2 for name, n in COUNTS.items()}
    reads: list[str] = []
    with FeatureStore(features) as store:
        real = store.descriptors
        cache = DescriptorCache(lambda name: (reads.append(name), real(name))[1], size["a"] + size["b/c d"] + size["ü"])
        for name in ("a", "b/c d", "ü", "a"):
            assert_array_equal(cache[name], real(name))
        assert reads == ["a", "b/c d", "ü"]
        assert cache.size == cache.limit
        assert_array_equal(cache["e"], real("e"))  # one too many: b/c d, not used since, has to go
        assert set(cache.arrays) == {"a", "ü", "e"}
        assert cache.size == sum(array.nbytes for array in cache.arrays.values()) <= cache.limit
        assert_array_equal(cache["a"], real("a"))
        assert_array_equal(cache["b/c d"], real("b/c d"))
        assert reads == ["a", "b/c d", "ü", "e", "b/c d"]
        cache.limit = 0
        assert_array_equal(cache["ü"], real("ü"))
        assert list(cache.arrays) == ["b/c d", "ü"]  # the two of a pair always stay


@pytest.mark.parametrize("threads", [1, 3])
def test_several_pairs_at_a_time_give_the_same(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    inside: set[tuple[str, int]] = set()
    real = match_features.matchers.match_batch

    def note(*args: Any) -> list[Matches]:
        inside.add((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.01)
        return real(*args)

    run(PAIRS, features, tmp_path / "whole.h5")
    monkeypatch.setattr(match_features.matchers, "match_batch", note)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        run(PAIRS, features, tmp_path / "m.h5")
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:  # a new thread is not left with what the last ones had
            assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert len(inside) == threads
    assert {count for _, count in inside} == {1}
    assert content(tmp_path / "m.h5", PAIRS) == content(tmp_path / "whole.h5", PAIRS)


def test_commits_come_by_time(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    real = MatchStore.commit
    monkeypatch.setattr(MatchStore, "commit", lambda store: (commits.append(1), real(store))[1])
    monkeypatch.setattr(match_features, "COMMIT_SECONDS", 3600)
    run(PAIRS, features, tmp_path / "seldom.h5")
    assert len(commits) == 2  # of the new file, and at the end
    commits.clear()
    monkeypatch.setattr(match_features, "COMMIT_SECONDS", 0)
    run(PAIRS, features, tmp_path / "often.h5")
    assert len(commits) == 12
    assert content(tmp_path / "often.h5", PAIRS) == content(tmp_path / "seldom.h5", PAIRS)


def test_precision_is_not_part_of_the_configuration(tmp_path: Path, features: Path) -> None:
    path = tmp_path / "m.h5"
    confs_of = [CONF | {"model": CONF["model"] | {"precision": precision}} for precision in ("bf16", "fp32")]
    assert run(PAIRS, features, path, confs_of[0]).matched == 10
    assert run(PAIRS, features, path, confs_of[1]).reused == 10
    run(PAIRS, features, tmp_path / "32.h5", confs_of[1])
    assert [c[0] for c in content(path, PAIRS)] == [c[0] for c in content(tmp_path / "32.h5", PAIRS)]


def test_batches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"{i}": random_features(i, 40 if i % 3 else 30) for i in range(7)}
    features = write(tmp_path / "f.h5", names)
    pairs = exhaustive_pairs(names)
    run(pairs, features, tmp_path / "1.h5")
    sizes = []
    real = match_features.matchers.match_batch

    def on_cpu(matcher: Any, read: list[Any], device: str) -> list[Matches]:
        sizes.append(len(read))
        assert device == "cuda"
        return real(matcher, read, "cpu")

    monkeypatch.setattr(match_features.matchers, "match_batch", on_cpu)
    monkeypatch.setattr(match_features, "choose_device", lambda device: "cuda")
    assert match(CONF, pairs, features, tmp_path / "8.h5", progress=False).matched == 21
    assert sizes == [8, 8, 5]
    assert content(tmp_path / "8.h5", pairs) == content(tmp_path / "1.h5", pairs)


def test_image_without_features_is_an_error_by_name(tmp_path: Path, features: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no features of 'x y' \(2 images of the pairs\)") as caught:
        run([("a", "z"), ("x y", "a")], features, tmp_path / "m.h5")
    assert str(features) in str(caught.value)
    with pytest.raises(StoreError, match="no such file"):
        run([("a", "z")], tmp_path / "missing.h5", tmp_path / "m.h5")


def test_other_options_do_not_mix(tmp_path: Path, features: Path) -> None:
    run(PAIRS, features, tmp_path / "m.h5")
    with pytest.raises(StoreError, match=r"model\.ratio: unset there, 0\.8 now"):
        run(PAIRS, features, tmp_path / "m.h5", confs.matchers["NN-ratio-one-sided"])


def test_names_that_collide_in_hlocs_file(tmp_path: Path) -> None:
    features = write(
        tmp_path / "f.h5",
        {"a/b-c": random_features(0, 20), "a-b/c": random_features(1, 20), "x": random_features(2, 20)},
    )
    pairs = [("a/b-c", "x"), ("a-b/c", "x")]
    run(pairs, features, tmp_path / "m.h5")
    with MatchStore(tmp_path / "m.h5") as store:
        for a, b in pairs:
            assert_array_equal(store.read(a, b).indices, expected_matches(features, a, b).indices)
    assert run(pairs, features, tmp_path / "m.h5") == MatchingReport(matched=0, reused=2)


def test_main_as_hlocs(tmp_path: Path, features: Path) -> None:
    pairs = tmp_path / "pairs-all.txt"
    pairs.write_text("a b/c d\nb/c d ü\n", encoding="utf-8")
    path = match_features.main(CONF, pairs, features, device="cpu")
    assert path == tmp_path / "f_matches-NN-mutual_pairs-all.h5"
    both = [("a", "b/c d"), ("b/c d", "ü")]
    expected = [expected_matches(features, a, b).indices.tobytes() for a, b in both]
    assert [indices for indices, _ in content(path, both)] == expected
    assert match_features.main(CONF, pairs, features, tmp_path / "out", device="cpu").parent == tmp_path / "out"
    assert match_features.main(CONF, pairs, features, matches=tmp_path / "m.h5", device="cpu") == tmp_path / "m.h5"
    assert content(tmp_path / "m.h5", both) == content(path, both)
    pairs.write_text("a nobody\n")
    with pytest.raises(ConfigurationError, match=r"line 1.*'a nobody'"):
        match_features.main(CONF, pairs, features, device="cpu")
