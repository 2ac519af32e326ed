import h5py
import numpy as np
import pytest

from posfeat_hloc.errors import StoreError
from posfeat_hloc.stores import GlobalDescriptorStore


def test_written_descriptors_come_back_in_half_precision(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
    names = ["a/b c.jpg", "a/ä.jpg", "z.jpg"]
    with GlobalDescriptorStore(tmp_path / "g.h5", {"x": 1}) as store:
        for name, vector in zip(names, vectors, strict=True):
            store.write(name, vector, source=f"{name}-1")
        store.write("z.jpg", vectors[0], source="new")  # replaced
        store.commit()
        assert store.is_current("z.jpg", "new")
        assert not store.is_current("z.jpg", "z.jpg-1")
        assert not store.is_current("nowhere.jpg", "")
    with GlobalDescriptorStore(tmp_path / "g.h5") as store:
        assert store.names() == names
        assert "a" not in store
        expected = vectors[[0, 1, 0]].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(store.read(names), expected)
        np.testing.assert_array_equal(store.read(["z.jpg", "a/ä.jpg"]), expected[[2, 1]])
    with h5py.File(tmp_path / "g.h5") as file:  # as hloc reads it
        assert file["a/b c.jpg"]["global_descriptor"].__array__().shape == (40,)


def test_missing_and_unequal_descriptors_are_named(tmp_path):
    with GlobalDescriptorStore(tmp_path / "g.h5", {}) as store:
        store.write("a.jpg", np.zeros(4, np.float32))
        store.write("b.jpg", np.zeros(5, np.float32))
        store.commit()
        with pytest.raises(StoreError, match=r"no global descriptor of 'c\.jpg' and 1 more"):
            store.read(["a.jpg", "c.jpg", "d.jpg"])
        with pytest.raises(StoreError, match="of 4 and of 5 dimensions"):
            store.read(["a.jpg", "b.jpg"])
        assert store.read([]).shape == (0, 0)
