import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.retrieval import search
from posfeat_hloc.retrieval.search import retrieve
from posfeat_hloc.stores import GlobalDescriptorStore


def write(path, names, vectors):
    with GlobalDescriptorStore(path, {}) as store:
        for name, vector in zip(names, vectors, strict=True):
            store.write(name, vector)
        store.commit()


def vectors_of(rng, count, dimension=6):
    """Few values, so that products are exact in any order of summing, and often equal."""
    return rng.integers(-3, 4, (count, dimension)).astype(np.float32) / 8


def slow(queries, database, count, one_file=True):
    """The definition, pair by pair, on descriptors as stored."""
    pairs = []
    for name, vector in queries.items():
        scored = []
        for order, (other, candidate) in enumerate(database.items()):
            if other != name or not one_file:
                product = np.float64(0)
                for a, b in zip(vector.astype(np.float16), candidate.astype(np.float16), strict=True):
                    product += np.float64(a) * np.float64(b)
                scored.append((-product, order, other))
        pairs += [(name, other) for *_, other in sorted(scored)[:count]]
    return pairs


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 4, 100])
def test_agrees_with_a_slow_loop(tmp_path, monkeypatch, rows, count):
    monkeypatch.setattr(search, "_ROWS", rows)
    rng = np.random.default_rng(count)
    queries = dict(zip([f"q/{i} x.jpg" for i in range(5)], vectors_of(rng, 5), strict=True))
    database = dict(zip([f"db/{i}.jpg" for i in range(11)], vectors_of(rng, 11), strict=True))
    database["q/2 x.jpg"] = queries["q/2 x.jpg"]  # in another file the same name is another image
    database["z.jpg"] = database["db/3.jpg"]  # a copy
    write(tmp_path / "q.h5", queries, queries.values())
    write(tmp_path / "db.h5", database, database.values())
    expected = slow(queries, dict(sorted(database.items())), count, one_file=False)
    assert retrieve(tmp_path / "q.h5", tmp_path / "db.h5", count) == expected


@given(seed=st.integers(0, 1000), count=st.integers(1, 6))
def test_names_restrict_both_sides_and_keep_their_order(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("r") / "all.h5"
    everything = dict(zip("abcdefgh", vectors_of(rng, 8), strict=True))
    write(path, everything, everything.values())
    query_names = rng.permutation(list("abcdefgh"))[:3].tolist()
    database_names = rng.permutation(list("abcdefgh"))[:5].tolist()
    expected = slow({n: everything[n] for n in query_names}, {n: everything[n] for n in database_names}, count)
    assert retrieve(path, path, count, query_names, database_names) == expected


def test_files_of_hloc_are_read(tmp_path):
    rng = np.random.default_rng(0)
    vectors = vectors_of(rng, 3)
    with h5py.File(tmp_path / "netvlad.h5", "w") as file:
        for name, vector in zip(["a/1.jpg", "a/2.jpg", "b.jpg"], vectors, strict=True):
            group = file.create_group(name)
            group.create_dataset("global_descriptor", data=vector.astype(np.float16))
            group.create_dataset("image_size", data=np.array([640, 480]))
    found = retrieve(tmp_path / "netvlad.h5", tmp_path / "netvlad.h5", 1, ["b.jpg"])
    assert found == [("b.jpg", ["a/1.jpg", "a/2.jpg"][int(vectors[2] @ vectors[1] > vectors[2] @ vectors[0])])]


def test_images_without_descriptors_are_named(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "a.h5", ["1.jpg", "2.jpg"], vectors_of(rng, 2))
    write(tmp_path / "b.h5", ["1.jpg"], vectors_of(rng, 1, 8))
    write(tmp_path / "empty.h5", [], [])
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    with pytest.raises(StoreError, match=r"a\.h5: holds no global descriptor of '3\.jpg' and 1 more"):
        retrieve(a, a, 1, ["1.jpg"], ["2.jpg", "3.jpg", "4.jpg"])
    with pytest.raises(StoreError, match="no such file"):
        retrieve(a, tmp_path / "c.h5", 1)
    with pytest.raises(ConfigurationError, match=r"6 dimensions in .*a\.h5, but 8 in .*b\.h5"):
        retrieve(a, b, 1)
    with pytest.raises(ConfigurationError, match=r"empty\.h5: no images"):
        retrieve(a, tmp_path / "empty.h5", 1)
    with pytest.raises(ConfigurationError, match="at least one"):
        retrieve(a, a, 0)
