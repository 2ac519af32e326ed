"""The match file: hloc's layout, wide indices, colliding names, both orders of a pair."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Matches
from posfeat_hloc.stores import MatchStore

CONFIGURATION = {"model": {"name": "nearest", "ratio": 0.8}}

Pair = tuple[str, str]

COLLIDING: list[Pair] = [("a/b-c.jpg", "x"), ("a-b/c.jpg", "x"), ("a-b-c.jpg", "x")]


def some_matches(seed: int, count0: int = 20, count1: int = 30) -> Matches:
    """Injective, half of them none; scores that half precision holds."""
    rng = np.random.default_rng(seed)
    indices = np.where(rng.random(count0) < 0.5, rng.permutation(max(count0, count1))[:count0], -1)
    indices[indices >= count1] = -1
    return Matches(indices, np.where(indices >= 0, rng.integers(1, 1024, count0) / 1024, 0).astype(np.float32))


def assert_same(found: Matches, expected: Matches) -> None:
    assert_array_equal(found.indices, expected.indices)
    assert_array_equal(found.scores, expected.scores)
    assert (found.indices.dtype, found.scores.dtype) == (np.int64, np.float32)


def write(path: Path, *pairs: Pair, seed: int = 0) -> Path:
    with MatchStore(path, CONFIGURATION) as store:
        for i, (a, b) in enumerate(pairs):
            store.write(a, b, some_matches(seed + i), 30, (f"{a} {seed}", f"{b} {seed}"))
        store.commit()
    return path


def test_layout_is_hlocs(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", ("db/1.jpg", "query/night/2.jpg"))
    with h5py.File(path) as file:
        assert list(file) == ["db-1.jpg"]
        group = file["db-1.jpg/query-night-2.jpg"]
        assert set(group) == {"matches0", "matching_scores0"}
        assert_array_equal(group["matches0"], some_matches(0).indices)
        assert_array_equal(group["matching_scores0"], some_matches(0).scores)
        assert (group["matches0"].dtype, group["matching_scores0"].dtype) == (np.int16, np.float16)


@pytest.mark.parametrize(
    "pair", [("with space.jpg", "ü/ö ß.jpg"), ("a_b", "c"), ("a", "b_c"), ("x~y", "~"), ("日本/1.png", "#1 (2).png")]
)
def test_any_names_round_trip(tmp_path: Path, pair: Pair) -> None:
    with MatchStore(write(tmp_path / "m.h5", pair, ("other", "pair"))) as store:
        assert_same(store.read(*pair), some_matches(0))
        assert_same(store.read("other", "pair"), some_matches(1))
        assert pair in store
        assert pair[::-1] in store
        assert ("a", "c") not in store


@pytest.mark.parametrize(("count1", "kind"), [(1, np.int16), (32767, np.int16), (32768, np.int32), (70000, np.int32)])
def test_indices_are_as_wide_as_the_second_image_needs(tmp_path: Path, count1: int, kind: type) -> None:
    matches = Matches(np.array([count1 - 1, -1, 0]), np.array([1, 0, 0.5], np.float32))
    with MatchStore(tmp_path / "m.h5", CONFIGURATION) as store:
        store.write("a", "b", matches, count1)
        assert store.file["a/b/matches0"].dtype == kind
        assert_same(store.read("a", "b"), matches)


def test_index_40000_survives(tmp_path: Path) -> None:
    with MatchStore(tmp_path / "m.h5", CONFIGURATION) as store:
        store.write("a", "b", Matches(np.array([40000, -1]), np.ones(2, np.float32)), 40001)
        store.commit()
    with MatchStore(tmp_path / "m.h5") as store:
        assert_array_equal(store.read("a", "b").indices, [40000, -1])
        assert_array_equal(store.read("b", "a", 50000).pairs(), [(40000, 0)])


def test_indices_that_overflowed_in_hloc_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a/b/matches0"] = np.array([3, -1, 40000]).astype(np.int16)
        file["a/b/matching_scores0"] = np.ones(3, np.float16)
        file["a/c/matches0"] = np.array([3, -1, 32767], np.int16)
        file["a/c/matching_scores0"] = np.ones(3, np.float16)
    with MatchStore(path) as store:
        for pair in (("a", "b"), ("b", "a")):
            with pytest.raises(StoreError, match="overflowed 16 bits") as caught:
                store.read(*pair)
            assert str(path) in str(caught.value)
        assert_array_equal(store.read("a", "c").indices, [3, -1, 32767])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_names_that_collide_in_hloc(tmp_path: Path, order: tuple[int, ...]) -> None:
    pairs = [COLLIDING[i] for i in order]
    path = write(tmp_path / "m.h5", *pairs)
    for seed in (0, 10, 20):  # written, and written again
        with MatchStore(path) as store:
            for i, (a, b) in enumerate(pairs):
                assert_same(store.read(a, b), some_matches(seed + i))
                assert store.is_current(a, b, (f"{a} {seed}", f"{b} {seed}"))
                assert not store.is_current(a, b, (f"{a} {seed + 10}", f"{b} {seed + 10}"))
            assert ("a/b/c.jpg", "x") not in store
        write(path, *pairs, seed=seed + 10)


def test_names_that_collide_as_second_image(tmp_path: Path) -> None:
    pairs = [(b, a) for a, b in COLLIDING]
    with MatchStore(write(tmp_path / "m.h5", *pairs)) as store:
        for i, (a, b) in enumerate(pairs):
            assert_same(store.read(a, b), some_matches(i))
            assert_same(store.read(b, a, 30), some_matches(i).reversed(30))


def test_collision_keeps_no_matches_where_hloc_looks(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "m.h5", *COLLIDING[:2])) as file:
        assert len(file["a-b-c.jpg/x"]) == 0


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a/b", "a-b", "a_b", "a", "b", "b/a", "b-a"]),
            st.sampled_from(["a/b", "a-b", "b", "b_a", "b/a"]),
        ),
        max_size=12,
    )
)
def test_last_written_is_read(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> None:
    path = tmp_path_factory.mktemp("store") / "m.h5"
    expected: dict[Pair, Matches] = {}
    with MatchStore(path, CONFIGURATION) as store:
        for i, (a, b) in enumerate(pairs):
            store.write(a, b, some_matches(i, 25, 25), 25)
            expected[a, b] = some_matches(i, 25, 25)
            if a != b:
                expected[b, a] = expected[a, b].reversed(25)
        store.commit()
    with MatchStore(path) as store:
        for (a, b), matches in expected.items():
            assert_same(store.read(a, b, 25), matches)


def test_other_order_flips(tmp_path: Path) -> None:
    matches = Matches(np.array([2, -1, 0, 3]), np.array([0.5, 0, 0.25, 1], np.float32))
    with MatchStore(tmp_path / "m.h5", CONFIGURATION) as store:
        store.write("a", "b", matches, 6)
        found = store.read("b", "a", 6)  # b has six keypoints
    assert_array_equal(found.indices, [2, -1, 0, 3, -1, -1])
    assert_array_equal(found.scores, np.array([0.25, 0, 0.5, 1, 0, 0], np.float32))


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(1, 40))
def test_other_order_is_the_reverse(tmp_path_factory: pytest.TempPathFactory, seed: int, n0: int, n1: int) -> None:
    matches = some_matches(seed, n0, n1)
    with MatchStore(tmp_path_factory.mktemp("store") / "m.h5", CONFIGURATION) as store:
        store.write("a", "b", matches, n1)
        assert_same(store.read("b", "a", n1), matches.reversed(n1))
        pairs = store.read("b", "a").pairs()
    assert sorted(map(tuple, pairs[:, ::-1].tolist())) == sorted(map(tuple, matches.pairs().tolist()))


def test_writing_one_order_replaces_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", ("a", "b"))
    write(path, ("b", "a"), seed=1)
    with MatchStore(path) as store:
        assert_same(store.read("b", "a"), some_matches(1))
        assert_same(store.read("a", "b", 30), some_matches(1).reversed(30))
        assert not store.is_current("a", "b", ("a 0", "b 0"))


def test_is_current_only_for_the_same_features(tmp_path: Path) -> None:
    with MatchStore(write(tmp_path / "m.h5", ("a", "b"))) as store:
        assert store.is_current("a", "b", ("a 0", "b 0"))
        for digests in (("a 1", "b 0"), ("a 0", "b 1"), ("b 0", "a 0"), ("", "")):
            assert not store.is_current("a", "b", digests)
        assert not store.is_current("b", "a", ("b 0", "a 0"))
        assert not store.is_current("a", "c", ("a 0", "c 0"))


def test_older_naming_of_hloc(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["db-1.jpg_q-2.jpg/matches0"] = np.array([-1, 4], np.int16)
        file["db-1.jpg_q-2.jpg/matching_scores0"] = np.array([0, 0.5], np.float16)
    with MatchStore(path) as store:
        assert_array_equal(store.read("db/1.jpg", "q/2.jpg").indices, [-1, 4])
        assert_array_equal(store.read("q/2.jpg", "db/1.jpg", 6).indices, [-1, -1, -1, -1, 1, -1])
        assert ("q/2.jpg", "db/1.jpg") in store


def test_incomplete_matches_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["a/b/matches0"] = np.array([-1, 4], np.int16)  # hloc was killed here
        file["a/c/matches0"] = np.array([-1, 4], np.int16)
        file["a/c/matching_scores0"] = np.zeros(3, np.float16)
    with MatchStore(path) as store:
        for name in ("b", "c", "d"):
            assert ("a", name) not in store
            assert not store.is_current("a", name, ("", ""))
            with pytest.raises(StoreError, match="holds no matches") as caught:
                store.read("a", name)
            assert str(path) in str(caught.value)
            assert repr(name) in str(caught.value)


def test_uncommitted_matches_are_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", ("a", "b"))
    with MatchStore(path, CONFIGURATION) as store:
        store.write("a", "b", some_matches(7), 30)
        store.write("a", "c", some_matches(8), 30)
    with MatchStore(path) as store:
        assert_same(store.read("a", "b"), some_matches(0))
        assert ("a", "c") not in store


def test_other_configuration_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", ("a", "b"))
    with pytest.raises(StoreError, match=r"model\.ratio: 0\.8 there, 0\.9 now"):
        MatchStore(path, {"model": {"name": "nearest", "ratio": 0.9}})


def test_configurations_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They are strings of variable length, as h5py writes any str."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["posfeat_hloc"] = '{"model": {"ratio": 0.8}}'
    with MatchStore(tmp_path / "m.h5", {"model": {"ratio": 0.8}}) as store:
        assert store.configuration == {"model": {"ratio": 0.8}}
        assert not store.directed


def test_file_with_a_hole_is_an_error_of_the_store(tmp_path: Path) -> None:
    pairs = [(a, b) for a in "abc" for b in "xyz"]
    path = write(tmp_path / "m.h5", *pairs)
    whole = path.read_bytes()
    errors = []
    for start in range(512, len(whole), 512):
        path.write_bytes(whole[:start] + bytes(len(whole) - start))
        try:
            with MatchStore(path) as store:
                for a, b in pairs:
                    store.is_current(a, b, ("", ""))
                    store.read(a, b)
        except StoreError as error:
            errors.append(str(error))
    assert len(errors) > 5
    assert all(str(path) in message for message in errors)
