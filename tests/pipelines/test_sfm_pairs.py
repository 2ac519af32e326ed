"""Pairs by global descriptors that another program wrote."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.sfm.choices import choose_pairs
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.options import SfmOptions, retrieval_source
from posfeat_hloc.sfm.summary import SfmResult

NAMES = ["a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg"]


def write_as_hloc(path: Path, angles: dict[str, float]) -> Path:
    """Unit vectors in a plane, in half precision, and the size of the image: hloc's layout."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, angle in angles.items():
            group = file.create_group(name)
            group["global_descriptor"] = np.array([np.cos(angle), np.sin(angle)], np.float16)
            group["image_size"] = np.array([640, 480])
    return path


def pairs_of(path: Path, count: int, run: SfmResult) -> set[frozenset[str]]:
    options = SfmOptions(pairs="retrieval", retrieval=str(path), neighbors=count)
    job = Job(path.parent, path.parent, options, result=run, usable=NAMES)
    return {frozenset(pair) for pair in choose_pairs(job, NAMES)}


def test_images_are_paired_with_the_most_similar_ones_of_the_file(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "global-feats-megaloc.h5", dict(zip(NAMES, (0.0, 1.0, 1.1, 0.1), strict=True)))
    run = SfmResult()
    assert pairs_of(path, 1, run) == {frozenset(["a.jpg", "e.jpg"]), frozenset(["b/c.jpg", "b/d.jpg"])}
    assert set(run.seconds) == {"retrieve"}
    assert len(pairs_of(path, 3, run)) == 6


def test_images_that_the_file_does_not_describe_are_noted(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "g.h5", {"a.jpg": 0.0, "e.jpg": 0.1, "of another folder.jpg": 0.05})
    run = SfmResult()
    assert pairs_of(path, 2, run) == {frozenset(["a.jpg", "e.jpg"])}
    assert {name for name, note in run.extraction.notes.items() if f"{path} does not describe it" in str(note)} == {
        "b/c.jpg", "b/d.jpg",
    }  # fmt: skip


def test_what_is_refused(tmp_path: Path) -> None:
    path = write_as_hloc(tmp_path / "g.h5", {"a.jpg": 0.0, "x.jpg": 0.1})
    with pytest.raises(ConfigurationError, match=r"g\.h5: describes fewer than two of the images"):
        pairs_of(path, 2, SfmResult())
    with pytest.raises(StoreError, match=r"nowhere\.h5"):
        pairs_of(tmp_path / "nowhere.h5", 2, SfmResult())
    assert retrieval_source("vlad-hardnet") == "vlad-hardnet"
    assert retrieval_source("out/g.h5") == "out/g.h5"
    with pytest.raises(ValueError, match=r"'netvlad' is none of vlad-hardnet, .*nor an HDF5 file"):
        retrieval_source("netvlad")
