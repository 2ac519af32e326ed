"""The feature file: hloc's layout, exact values, incomplete groups, files that are not ours or damaged."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from posfeat_hloc.errors import StoreError
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

CONFIGURATION = {"model": {"name": "d2d", "max_keypoints": 100}, "weights": "abc", "preprocessing": {"resize_max": 10}}

NAMES = [
    "with space.jpg",
    "ümläut/Straße ü.jpg",
    "deep/er/and/deeper.png",
    "a/b-c.jpg",
    "a-b/c.jpg",
    "(1) 100%.jpg",
    "日本.tif",
]


def random_features(seed: int, n: int = 5, dimension: int = 8) -> Features:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(n, dimension))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = rng.uniform(0, 4000, (n, 2))
    return Features(keypoints.astype(np.float32), rng.random(n).astype(np.float32), descriptors.astype(np.float32))


def write(path: Path, *names: str, configuration: dict[str, object] = CONFIGURATION) -> Path:
    with FeatureStore(path, configuration) as store:
        for i, name in enumerate(names):
            store.write(name, random_features(i), (4000 + i, 3000), uncertainty=1.5, source=f"source {i}")
        store.commit()
    return path


def assert_holds(path: Path, *names: str) -> None:
    """All of :func:`write` is there, and nothing else."""
    with FeatureStore(path) as store:
        assert store.names() == sorted(names)
        for i, name in enumerate(names):
            expected, found = random_features(i), store.read(name)
            assert_array_equal(found.keypoints, expected.keypoints)
            assert_array_equal(found.scores, expected.scores)
            assert_array_equal(found.descriptors, expected.descriptors.astype(np.float16))
            assert store.image_size(name) == (4000 + i, 3000)
            assert store.uncertainty(name) == 1.5


def test_layout_is_hlocs(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "dir/x.jpg")
    expected = random_features(0)
    with h5py.File(path) as file:
        group = file["dir"]["x.jpg"]
        assert set(group) == {"keypoints", "scores", "descriptors", "image_size"}
        assert_array_equal(group["keypoints"], expected.keypoints)
        assert group["keypoints"].dtype == np.float32
        assert group["keypoints"].attrs["uncertainty"] == 1.5
        assert_array_equal(group["scores"], expected.scores)
        assert group["scores"].dtype == np.float32
        assert_array_equal(group["descriptors"], expected.descriptors.T.astype(np.float16))
        assert group["descriptors"].dtype == np.float16
        assert_array_equal(group["image_size"], [4000, 3000])
        assert np.issubdtype(group["image_size"].dtype, np.integer)


def test_any_name_round_trips(tmp_path: Path) -> None:
    assert_holds(write(tmp_path / "a folder" / "füle.h5", *NAMES), *NAMES)


def test_keypoints_are_exact_where_half_precision_is_not(tmp_path: Path) -> None:
    assert np.float16(3000.25) == 3000  # hloc's file would say so
    features = Features(
        np.array([[3000.25, 2047.125]], np.float32), np.ones(1, np.float32), np.ones((1, 1), np.float32)
    )
    with FeatureStore(tmp_path / "f.h5", CONFIGURATION) as store:
        store.write("x", features, (4000, 3000))
        assert_array_equal(store.keypoints("x"), [[3000.25, 2047.125]])
        store.commit()
    with FeatureStore(tmp_path / "f.h5") as store:
        assert_array_equal(store.keypoints("x"), [[3000.25, 2047.125]])


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(1, 130), st.integers(0, 2**32))
def test_round_trip_of_any_number_of_features(
    tmp_path_factory: pytest.TempPathFactory, n: int, d: int, seed: int
) -> None:
    expected = random_features(seed, n, d)
    path = tmp_path_factory.mktemp("store") / "f.h5"
    with FeatureStore(path, CONFIGURATION) as store:
        store.write("x", expected, (1, 2))
        store.commit()
    with FeatureStore(path) as store:
        found = store.read("x")
        assert_array_equal(found.keypoints, expected.keypoints)
        assert_array_equal(found.scores, expected.scores)
        np.testing.assert_allclose(found.descriptors, expected.descriptors, rtol=2**-11, atol=2**-25)
        assert_array_equal(store.descriptors("x"), found.descriptors.astype(np.float16))


def test_uncommitted_features_are_lost_and_others_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "a", "b")
    with FeatureStore(path, CONFIGURATION) as store:
        store.write("a", random_features(9), (1, 1))
        store.write("c", random_features(9), (1, 1))
        assert store.names() == ["a", "b", "c"]
    assert_holds(path, "a", "b")


def test_rewriting_replaces(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "d/x", "d/y")
    with FeatureStore(path, CONFIGURATION) as store:
        before = store.digest("d/x")
        store.write("d/x", random_features(9, n=50), (1, 1), source="new")
        store.commit()
    with FeatureStore(path) as store:
        assert_array_equal(store.keypoints("d/x"), random_features(9, n=50).keypoints)
        assert_array_equal(store.keypoints("d/y"), random_features(1).keypoints)
        assert store.digest("d/x") != before
        assert not store.is_current("d/x", "source 0")
        assert store.is_current("d/x", "new")


def test_is_current_only_for_the_same_source(tmp_path: Path) -> None:
    with FeatureStore(write(tmp_path / "f.h5", "x")) as store:
        assert store.is_current("x", "source 0")
        assert not store.is_current("x", "source 1")
        assert not store.is_current("x", "")
        assert not store.is_current("y", "source 0")


def test_digest_depends_on_what_is_matched(tmp_path: Path) -> None:
    one = random_features(0)
    moved = Features(one.keypoints + np.float32(0.25), one.scores, one.descriptors)
    turned = Features(one.keypoints, one.scores, one.descriptors[::-1].copy())
    with FeatureStore(tmp_path / "f.h5", CONFIGURATION) as store:
        for name, features in {"one": one, "again": one, "moved": moved, "turned": turned}.items():
            store.write(name, features, (1, 1))
        assert store.digest("one") == store.digest("again") != ""
        assert len({store.digest("one"), store.digest("moved"), store.digest("turned")}) == 3
        assert store.digest("unknown") == ""


def hloc_group(file: h5py.File, name: str, n: int = 4, **changes: object) -> None:
    """What hloc's extract_features writes (as_half); ``changes`` replace a dataset or, as None, leave it out."""
    data: dict[str, object] = {
        "keypoints": np.full((n, 2), 100.5, np.float16),
        "scores": np.full(n, 0.5, np.float16),
        "descriptors": np.full((16, n), 0.25, np.float16),
        "image_size": np.array([640, 480]),
    }
    group = file.create_group(name)
    for key, value in (data | changes).items():
        if value is not None:
            group.create_dataset(key, data=value)


def test_file_of_hloc_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w", libver="latest") as file:
        hloc_group(file, "db/1.jpg")
        file["db/1.jpg/keypoints"].attrs["uncertainty"] = np.float32(2)
        hloc_group(file, "db/2.jpg", n=0)
        hloc_group(file, "db/3.jpg", scores=None)
        hloc_group(file, "db/4.jpg", scores=None, keypoint_scores=np.full(4, 0.75, np.float16))
    with FeatureStore(path) as store:
        assert store.names() == ["db/1.jpg", "db/2.jpg", "db/3.jpg", "db/4.jpg"]
        found = store.read("db/1.jpg")
        assert_array_equal(found.keypoints, np.full((4, 2), 100.5))
        assert_array_equal(found.scores, np.full(4, 0.5))
        assert_array_equal(found.descriptors, np.full((4, 16), 0.25))
        assert [array.dtype for array in (found.keypoints, found.scores, found.descriptors)] == [np.float32] * 3
        assert store.image_size("db/1.jpg") == (640, 480)
        assert store.uncertainty("db/1.jpg") == 2
        assert store.uncertainty("db/3.jpg") is None
        assert len(store.read("db/2.jpg")) == 0
        assert_array_equal(store.read("db/3.jpg").scores, np.ones(4))
        assert_array_equal(store.read("db/4.jpg").scores, np.full(4, 0.75))
        assert store.digest("db/1.jpg") == ""
        assert not store.is_current("db/1.jpg", "of any source")


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": None, "descriptors": None, "image_size": None},
        {"descriptors": None, "image_size": None},
        {"image_size": None},
        {"descriptors": np.zeros((8, 3), np.float16)},
        {"scores": np.zeros(3, np.float16)},
        {"keypoints": np.zeros(8, np.float16)},
        {"descriptors": np.zeros(32, np.float16)},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_incomplete_groups_do_not_count(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "hloc.h5"
    with h5py.File(path, "w") as file:
        hloc_group(file, "half.jpg", **changes)
        hloc_group(file, "whole.jpg")
    with FeatureStore(path) as store:
        assert store.names() == ["whole.jpg"]
        assert "half.jpg" not in store
        assert not store.is_current("half.jpg", "")
        for read in (store.read, store.keypoints, store.descriptors, store.image_size, store.uncertainty):
            for name in ("half.jpg", "unknown.jpg"):
                with pytest.raises(StoreError, match="no complete features") as caught:
                    read(name)
                assert str(path) in str(caught.value)
                assert name in str(caught.value)


def test_incomplete_group_is_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "x", "y")
    with h5py.File(path, "r+") as file:
        del file["x/descriptors"]
    with FeatureStore(path, CONFIGURATION) as store:
        assert not store.is_current("x", "source 0")
    write(path, "x", "y")
    assert_holds(path, "x", "y")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"name": "d2d", "max_keypoints": 200}}, "model.max_keypoints: 100 there, 200 now"),
        ({"weights": "other"}, "weights: abc there, other now"),
        ({"preprocessing": {"resize_max": None}}, "preprocessing.resize_max: 10 there, None now"),
        ({"model": {"name": "d2d", "max_keypoints": 100, "radius": 3}}, "model.radius: unset there, 3 now"),
    ],
)
def test_other_configuration_is_refused_by_name(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    path = write(tmp_path / "f.h5", "x")
    with pytest.raises(StoreError, match=re.escape(said)) as caught:
        FeatureStore(path, CONFIGURATION | changed)
    assert str(path) in str(caught.value)
    assert said == re.search(r"\((.*)\)", str(caught.value)).group(1)  # type: ignore[union-attr]
    assert_holds(path, "x")


def test_same_configuration_in_other_order_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "x")
    write(path, "x", configuration=dict(reversed(CONFIGURATION.items())))
    assert_holds(path, "x")


def test_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        hloc_group(file, "x.jpg")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="was not written by posfeat_hloc") as caught:
        FeatureStore(path, CONFIGURATION)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    with FeatureStore(path) as store:  # and no lock is left
        assert store.names() == ["x.jpg"]


@pytest.mark.parametrize("configuration", [None, CONFIGURATION], ids=["read", "write"])
def test_text_file_is_refused(tmp_path: Path, configuration: dict[str, object] | None) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(StoreError, match="not an HDF5 file") as caught:
        FeatureStore(path, configuration)
    assert str(path) in str(caught.value)
    assert path.read_text() == "these are my notes\n" * 100


@pytest.mark.parametrize("configuration", [None, CONFIGURATION], ids=["read", "write"])
def test_truncated_file_is_refused(tmp_path: Path, configuration: dict[str, object] | None) -> None:
    path = write(tmp_path / "f.h5", *NAMES)
    whole = path.read_bytes()
    for length in [1, 7, 8, 50, 95, 96, 97, *range(1000, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="not an HDF5 file, or damaged") as caught:
            FeatureStore(path, configuration)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == whole[:length]


def test_file_with_a_hole_is_an_error_of_the_store(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", *NAMES)
    whole = path.read_bytes()
    errors = []
    for start in range(512, len(whole), 512):  # as a copy that was interrupted leaves it
        path.write_bytes(whole[:start] + bytes(len(whole) - start))
        try:
            with FeatureStore(path) as store:
                for name in store.names():
                    store.digest(name)
                    store.is_current(name, "")
                    store.read(name)
        except StoreError as error:
            errors.append(str(error))
    assert len(errors) > 5
    assert all(str(path) in message for message in errors)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file") as caught:
        FeatureStore(tmp_path / "none.h5")
    assert "none.h5" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_empty_file_is_a_new_one_for_writing_only(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    path.touch()  # what is left of a run killed at its very beginning
    with pytest.raises(StoreError):
        FeatureStore(path)
    assert_holds(write(path, "x"), "x")


def test_new_file_is_complete_before_the_first_image(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    FeatureStore(path, CONFIGURATION).close()
    with FeatureStore(path) as store:
        assert store.names() == []
    with pytest.raises(StoreError, match="weights: abc there"):
        FeatureStore(path, CONFIGURATION | {"weights": ""})


def test_reading_while_another_writes(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", "x")
    with FeatureStore(path, CONFIGURATION):
        for configuration in (None, CONFIGURATION):
            with pytest.raises(StoreError, match="in use by another process") as caught:
                FeatureStore(path, configuration)
            assert "delete" not in str(caught.value)
    with FeatureStore(path), FeatureStore(path):  # readers do not disturb each other
        pass
    assert_holds(path, "x")
