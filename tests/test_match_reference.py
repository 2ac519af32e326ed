"""Matching images of one file with those of another, where names may be equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posfeat_hloc import confs, match_features
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.features import Matches
from posfeat_hloc.match_features import match
from posfeat_hloc.stores import MatchStore
from posfeat_hloc.stores.pairs import read_pairs
from tests.test_match_features import random_features, write

CONF = confs.matchers["NN-mutual"]
PAIRS = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, dict[tuple[str, str], list[int]]]:
    """Queries a, b and map images a, b; each query is a shuffled copy of the map image of the other name."""
    originals = {"a": random_features(1, 30), "b": random_features(2, 40)}
    rng = np.random.default_rng(0)
    orders = {"a": rng.permutation(40), "b": rng.permutation(30)}
    queries = {}
    for name, other in (("a", "b"), ("b", "a")):
        found = originals[other]
        queries[name] = replace(found, descriptors=found.descriptors[orders[name]])
    truth = {("a", "b"): orders["a"].tolist(), ("b", "a"): orders["b"].tolist()}
    return write(tmp_path / "q.h5", queries), write(tmp_path / "map.h5", originals), truth


def test_pairs_are_directed_and_names_may_be_equal(files, tmp_path):
    queries, reference, truth = files
    report = match(CONF, PAIRS, queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    assert report.matched == 4
    with MatchStore(tmp_path / "m.h5") as store:
        assert store.directed
        for pair, order in truth.items():
            assert store.read(*pair).indices.tolist() == order
        assert len(store.read("a", "a").indices) == 40
    again = match(CONF, PAIRS[::-1], queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    assert (again.matched, again.reused) == (0, 4)


def test_changed_features_on_either_side_are_matched_again(files, tmp_path):
    queries, reference, _ = files
    match(CONF, PAIRS, queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    write(reference, {"b": random_features(9, 12)})
    report = match(CONF, PAIRS, queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    assert (report.matched, report.reused) == (2, 2)
    write(queries, {"a": random_features(8, 12)})
    report = match(CONF, PAIRS, queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    assert (report.matched, report.reused) == (2, 2)


def test_a_directed_file_never_answers_for_the_other_order(tmp_path):
    with MatchStore(tmp_path / "m.h5", {"directed": True}) as store:
        store.write("a", "b", Matches(np.array([1, 0]), np.ones(2, np.float32)), 2)
        assert ("a", "b") in store
        assert ("b", "a") not in store
        with pytest.raises(StoreError, match="match this pair first"):
            store.read("b", "a")
        store.write("b", "a", Matches(np.array([-1, 0, 1]), np.ones(3, np.float32)), 2)
        assert store.read("a", "b").indices.tolist() == [1, 0]
        assert store.read("b", "a").indices.tolist() == [-1, 0, 1]


def test_one_file_is_not_used_for_both_kinds(files, tmp_path):
    queries, reference, _ = files
    match(CONF, PAIRS, queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    with pytest.raises(StoreError, match="directed"):
        match(CONF, [("a", "b")], queries, tmp_path / "m.h5", "cpu", progress=False)


def test_missing_images_and_other_descriptors_are_named(files, tmp_path):
    queries, reference, _ = files
    with pytest.raises(StoreError, match=r"map\.h5: holds no features of 'c' \(1 images"):
        match(CONF, [("a", "c")], queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    with pytest.raises(StoreError, match=r"q\.h5: holds no features of 'c' \(1 images"):
        match(CONF, [("c", "a")], queries, tmp_path / "m.h5", "cpu", progress=False, reference=reference)
    found = random_features(3, 20)
    short = write(tmp_path / "short.h5", {"a": replace(found, descriptors=found.descriptors[:, :8])})
    with pytest.raises(StoreError, match=r"descriptors of 16 numbers for 'a'.*short\.h5 has descriptors of 8"):
        match(CONF, [("a", "a")], queries, tmp_path / "m2.h5", "cpu", progress=False, reference=short)


def test_main_reads_each_name_in_its_own_file(files, tmp_path):
    queries, reference, truth = files
    (tmp_path / "pairs.txt").write_text("a a\na b\nb a\na b\n")
    path = match_features.main(CONF, tmp_path / "pairs.txt", queries, tmp_path, features_ref=reference, device="cpu")
    with MatchStore(path) as store:
        assert store.read("a", "b").indices.tolist() == truth["a", "b"]
        assert ("b", "b") not in store
    assert read_pairs(tmp_path / "pairs.txt", ["a", "b"], ["a", "b"]) == [("a", "a"), ("a", "b"), ("b", "a")]
    with pytest.raises(ConfigurationError, match="line 3"):
        read_pairs(tmp_path / "pairs.txt", ["a"], ["a", "b"])
