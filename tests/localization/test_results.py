"""The log of queries as kills leave it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.localization import results
from posfeat_hloc.localization.results import Localized, Log, read_results, result_names, write_results


def line(name: str) -> bytes:
    return (json.dumps({**Localized(name, reason="no pair").as_dict(), "key": "k"}, ensure_ascii=False) + "\n").encode()


def test_a_line_that_was_cut_anywhere_is_dropped(tmp_path: Path) -> None:
    """In the middle of a letter, too."""
    first, second = line("a.jpg"), line("größe.jpg")
    path = tmp_path / "log.jsonl"
    for length in range(len(second)):
        path.write_bytes(first + second[:length])
        with Log(path) as log:
            assert log.find("a.jpg", "k") is not None
            assert log.find("größe.jpg", "k") is None
            log.add("k", Localized("größe.jpg", reason="no pair"))
        assert path.read_bytes() == first + second
        path.write_bytes(second[:length])
        with Log(path) as log:
            assert log.find("größe.jpg", "k") is None
        assert path.read_bytes() == b""


def test_lines_that_are_no_records_are_named(tmp_path: Path) -> None:
    for damaged in (b"{}\n", b"\xff\xfe\n", b"[1]\n", b"\n"):
        (tmp_path / "log.jsonl").write_bytes(line("a.jpg") + damaged)
        with pytest.raises(ConfigurationError, match=r"log\.jsonl"):
            Log(tmp_path / "log.jsonl")


NUMBER = st.floats(-1e6, 1e6)
POSE = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.5, -0.5, 0.1, 0.7])), np.array([1.5, -2, 1e-7]))


def test_the_quaternion_begins_with_w_and_the_folder_is_left_out(tmp_path):
    quarter = pycolmap.Rotation3d(np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]))
    write_results(tmp_path / "r.txt", {"query/night/b.jpg": pycolmap.Rigid3d(quarter, np.array([1.0, 2.0, 3.0]))})
    name, *numbers = (tmp_path / "r.txt").read_text().split()
    assert name == "b.jpg"
    np.testing.assert_allclose([float(n) for n in numbers], [np.sqrt(0.5), 0, 0, np.sqrt(0.5), 1, 2, 3], atol=1e-15)


@given(
    st.dictionaries(
        st.text("abc/ .#ü", min_size=1).map(lambda s: f"x{s}y"),
        st.tuples(*[st.floats(-1, 1)] * 4, *[NUMBER] * 3).filter(lambda v: np.linalg.norm(v[:4]) > 0.1),
    )
)
def test_poses_survive_to_the_last_digit(tmp_path_factory, values):
    poses = {}
    for name, v in values.items():
        quat = np.array(v[:4])
        poses[name] = pycolmap.Rigid3d(pycolmap.Rotation3d(quat / np.linalg.norm(quat)), np.array(v[4:]))
    path = tmp_path_factory.mktemp("r") / "r.txt"
    write_results(path, poses, "path")
    found = read_results(path)
    assert list(found) == sorted(poses)
    for name, pose in poses.items():
        np.testing.assert_array_equal(found[name].translation, pose.translation)
        np.testing.assert_allclose(found[name].rotation.quat, pose.rotation.quat, atol=1e-15)


def test_names_can_keep_the_camera_or_the_whole_path():
    name = "overcast/rear/12 3.jpg"
    assert [result_names([name], how)[name] for how in results.NAMES] == ["12 3.jpg", "rear/12 3.jpg", name]


def test_names_that_would_collide_are_an_error_and_the_file_stays(tmp_path):
    write_results(tmp_path / "r.txt", {"a.jpg": POSE})
    with pytest.raises(ConfigurationError, match=r"'l/a\.jpg' and 'r/a\.jpg' would both be called 'a\.jpg'"):
        write_results(tmp_path / "r.txt", {"l/a.jpg": POSE, "r/a.jpg": POSE})
    assert list(read_results(tmp_path / "r.txt")) == ["a.jpg"]
    with pytest.raises(ConfigurationError, match="'folder' do not exist"):
        write_results(tmp_path / "r.txt", {}, "folder")


def test_a_run_killed_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    write_results(tmp_path / "r.txt", {"a.jpg": POSE})
    before = (tmp_path / "r.txt").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "r.txt", {"b.jpg": POSE})
    assert (tmp_path / "r.txt").read_bytes() == before


@pytest.mark.parametrize(
    "line",
    ["a.jpg 1 0 0 0 1 2", "a.jpg 1 0 0 0 1 2 x", "a.jpg 2 0 0 0 1 2 3", "a.jpg 1 0 0 0 inf 2 3", "1 0 0 0 1 2 3", "a"],
)
def test_lines_of_another_form_are_named(tmp_path, line):
    (tmp_path / "r.txt").write_text(f"ok.jpg 1 0 0 0 1 2 3\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"r\.txt, line 2: not of the form"):
        read_results(tmp_path / "r.txt")


def test_missing_files_and_double_names_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.txt"):
        read_results(tmp_path / "none.txt")
    (tmp_path / "r.txt").write_text("a.jpg 1 0 0 0 1 2 3\n" * 2)
    with pytest.raises(ConfigurationError, match=r"line 2: 'a\.jpg' occurs twice"):
        read_results(tmp_path / "r.txt")


def test_no_poses_are_an_empty_file(tmp_path):
    write_results(tmp_path / "r.txt", {})
    assert (tmp_path / "r.txt").read_text() == ""
    assert read_results(tmp_path / "r.txt") == {}


def test_names_that_begin_with_a_number_sign_are_no_comments(tmp_path):
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 0.6, 0, 0.8])), np.array([1.0, -2, 3]))
    names = ["#1.jpg", "# 2 b.jpg", "a:3.jpg", "q\"4'.jpg"]
    write_results(tmp_path / "poses.txt", dict.fromkeys(names, pose))
    with (tmp_path / "poses.txt").open("a") as file:
        file.write("# name qw qx qy qz tx ty tz\n#\n")
    found = read_results(tmp_path / "poses.txt")
    assert sorted(found) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(found[name].translation, [1, -2, 3])
        np.testing.assert_allclose(found[name].rotation.quat, [0, 0.6, 0, 0.8], rtol=1e-15)
