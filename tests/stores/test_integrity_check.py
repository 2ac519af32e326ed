"""What the check says of damaged files, and what a repaired file holds."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from posfeat_hloc.errors import StoreError
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore, MatchStore
from posfeat_hloc.stores.integrity_check import check_file, repair_file
from tests.fuzzing.store_readers import (
    CONFIGURATION,
    NAMES,
    features,
    with_journal,
    write_descriptors,
    write_features,
    write_hloc,
    write_matches,
)


def place_of(path: Path, dataset: str) -> int:
    """Where the data of a dataset begin in a file."""
    with h5py.File(path, "r") as file:
        offset = file[dataset].id.get_offset()
    assert offset is not None
    return int(offset)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "name", "kinds"),
    [
        (write_features, "f.h5", {"features": 3}),
        (write_hloc, "f.h5", {"features": 3}),
        (write_matches, "m.h5", {"matches": 3}),
        (write_descriptors, "g.h5", {"global descriptors": 3}),
    ],
)
def test_intact_files(tmp_path: Path, write, name: str, kinds: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path)
    report = check_file(tmp_path / name)
    assert report.damaged == {}
    assert report.kinds == kinds
    assert len(report.intact) == 3


def test_one_flipped_bit_of_each_kind_is_found_and_its_group_alone_is_lost(tmp_path: Path) -> None:
    write_features(tmp_path)
    write_matches(tmp_path)
    write_descriptors(tmp_path)
    for file, group, dataset in (
        ("f.h5", "b/c.jpg", "keypoints"),
        ("f.h5", "a.jpg", "descriptors"),
        ("m.h5", "a.jpg/b-c.jpg", "matches0"),
        ("g.h5", "b/d.jpg", "global_descriptor"),
    ):
        flip(tmp_path / file, place_of(tmp_path / file, f"{group}/{dataset}") + 5)
        report = check_file(tmp_path / file)
        assert group in report.damaged
        assert group not in report.intact
    assert set(check_file(tmp_path / "f.h5").damaged) == {"b/c.jpg", "a.jpg"}


def test_a_repaired_file_is_gone_on_with(tmp_path: Path) -> None:
    write_features(tmp_path)
    path = tmp_path / "f.h5"
    with FeatureStore(path) as store:
        before = {name: store.read(name) for name in NAMES}
    flip(path, place_of(path, "b/c.jpg/descriptors"))
    damaged = path.read_bytes()
    kept = repair_file(check_file(path))
    assert kept.read_bytes() == damaged
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "f.h5.damaged"]
    with FeatureStore(path, CONFIGURATION) as store:
        assert [store.is_current(name, "1-2") for name in NAMES] == [True, False, True]
        store.write(NAMES[1], features(), (100, 100), source="1-2")
        store.commit()
    with FeatureStore(path) as store:
        for name in (NAMES[0], NAMES[2]):
            np.testing.assert_array_equal(store.read(name).descriptors, before[name].descriptors)
    flip(path, place_of(path, "a.jpg/keypoints"))
    assert repair_file(check_file(path)).name == "f.h5.damaged1"  # the first one is not overwritten


def test_matches_and_vocabularies_survive_a_repair(tmp_path: Path) -> None:
    write_matches(tmp_path)
    write_descriptors(tmp_path)
    flip(tmp_path / "m.h5", place_of(tmp_path / "m.h5", "a.jpg/b-d.jpg/matching_scores0"))
    flip(tmp_path / "g.h5", place_of(tmp_path / "g.h5", "a.jpg/global_descriptor"))
    with GlobalDescriptorStore(tmp_path / "g.h5") as store:
        words = store.vocabulary
    for name in ("m.h5", "g.h5"):
        repair_file(check_file(tmp_path / name))
    with MatchStore(tmp_path / "m.h5", {"model": {"name": "nearest"}}) as store:
        assert store.is_current(NAMES[0], NAMES[1], ("digest0", "digest1"))
        assert (NAMES[0], NAMES[2]) not in store
    with GlobalDescriptorStore(tmp_path / "g.h5", CONFIGURATION) as store:
        assert store.names() == ["b/c.jpg", "b/d.jpg"]
        np.testing.assert_array_equal(store.vocabulary, words)


def test_a_group_that_stops_hdf5_is_named_and_left_out(tmp_path: Path) -> None:
    """Zeros where HDF5 keeps strings of variable length make it read on for ever."""
    path = tmp_path / "f.h5"
    write_hloc(tmp_path)
    with h5py.File(path, "r+") as file:
        file["b/c.jpg"].attrs["source"] = "a string in the global heap"
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL") + 16
    data[heap : heap + 16] = bytes(16)
    path.write_bytes(data)
    report = check_file(path, limit=1.5)
    assert report.damaged == {"b/c.jpg": "reading it takes more than 1.5 s"}
    assert report.intact == ["a.jpg", "b/d.jpg"]
    repair_file(report)
    assert check_file(path).intact == ["a.jpg", "b/d.jpg"]


@pytest.mark.parametrize("part", [0, 0.02, 0.5, 0.95])
def test_truncated_files(tmp_path: Path, part: float) -> None:
    write_features(tmp_path)
    path = tmp_path / "f.h5"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    report = check_file(path)
    assert list(report.damaged) == ["the file"]
    with pytest.raises(StoreError, match="no group is intact; delete it"):
        repair_file(report)


def test_content_that_cannot_be_is_named(tmp_path: Path) -> None:
    write_hloc(tmp_path)  # without checksums
    path = tmp_path / "f.h5"
    with h5py.File(path, "r+") as file:
        file["a.jpg/keypoints"][3, 1] = np.nan
        del file["b/c.jpg/descriptors"]
        file["b/d.jpg/image_size"][0] = 0
        file.create_group("empty.jpg")
        file["far.jpg"] = file["a.jpg"]
    with h5py.File(path, "r+") as file:
        file.copy("a.jpg", "outside.jpg")
        file["outside.jpg/keypoints"][...] = 500
    assert check_file(path).damaged == {
        "a.jpg": "keypoints are not finite",
        "far.jpg": "keypoints are not finite",
        "b/c.jpg": "has no descriptors",
        "b/d.jpg": "an image of 0 x 100 pixels",
        "empty.jpg": "is empty",
        "outside.jpg": "keypoints lie outside of the image",
    }


def test_matches_are_compared_with_their_features(tmp_path: Path) -> None:
    write_features(tmp_path)
    write_matches(tmp_path)
    assert check_file(tmp_path / "m.h5", [tmp_path / "f.h5"]).damaged == {}
    with FeatureStore(tmp_path / "f.h5", CONFIGURATION) as store:
        store.write("b/d.jpg", features(5), (100, 100))
        store.commit()
    damaged = check_file(tmp_path / "m.h5", [tmp_path / "f.h5"]).damaged
    assert set(damaged) == {"a.jpg/b-d.jpg", "b-c.jpg/b-d.jpg"}
    assert "but the features have 5 keypoints" in damaged["a.jpg/b-d.jpg"]


def test_a_journal_is_completed_first(tmp_path: Path) -> None:
    for name, content in with_journal(write_features, "f.h5").items():
        (tmp_path / name).write_bytes(content)
    report = check_file(tmp_path / "f.h5")
    assert report.damaged == {}
    assert "journal of an interrupted run was applied" in report.notes[0]
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    write_features(tmp_path)
    with FeatureStore(tmp_path / "f.h5", CONFIGURATION):
        assert "in use by another process" in check_file(tmp_path / "f.h5").damaged["the file"]


def test_colliding_names_are_no_damage(tmp_path: Path) -> None:
    from posfeat_hloc.features import Matches

    with MatchStore(tmp_path / "m.h5", {"model": {"name": "nearest"}}) as store:
        for pair in (("a/b-c.jpg", "x.jpg"), ("a-b/c.jpg", "x.jpg")):
            store.write(*pair, Matches.empty(4), 4)
        store.commit()
    report = check_file(tmp_path / "m.h5")
    assert report.damaged == {}
    assert report.kinds == {"matches": 3}  # two, and the empty group that holds their common key
