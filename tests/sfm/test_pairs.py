from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.sfm import pairs as pairs_module
from posfeat_hloc.sfm.pairs import (
    covisibility_pairs,
    exhaustive_pairs,
    far_pairs,
    pose_pairs,
    sequences_of,
    sequential_pairs,
)
from posfeat_hloc.stores.pairs import read_pairs, unique_pairs, write_pairs

NAMES = st.lists(st.text("abcxyz/ -_.ü", min_size=1, max_size=8), max_size=12)


@given(NAMES)
def test_exhaustive_pairs_hold_every_pair_once(names):
    pairs = exhaustive_pairs(names)
    distinct = set(names)
    assert len(pairs) == len(distinct) * (len(distinct) - 1) // 2
    assert {frozenset(p) for p in pairs} == {frozenset(p) for p in combinations(distinct, 2)}


def test_sequential_pairs_without_quadratic_steps_are_the_near_neighbours():
    names = [f"{i:03d}.jpg" for i in range(9)]
    pairs = sequential_pairs(names, overlap=2, quadratic=False)
    expected = {(i, j) for i in range(9) for j in (i + 1, i + 2) if j < 9}
    assert {(names.index(a), names.index(b)) for a, b in pairs} == expected


def test_sequential_pairs_with_quadratic_steps_reach_powers_of_two():
    names = [f"{i:03d}.jpg" for i in range(40)]
    steps = {names.index(b) - names.index(a) for a, b in sequential_pairs(names, overlap=5)}
    assert steps == {1, 2, 3, 4, 5, 8, 16}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"))))
def test_unique_pairs_ignores_order_and_self_pairs(pairs):
    result = unique_pairs(pairs)
    assert len({frozenset(p) for p in result}) == len(result)
    assert {frozenset(p) for p in result} == {frozenset(p) for p in pairs if p[0] != p[1]}
    assert all(pair in pairs for pair in result)


def test_pairs_with_spaces_and_umlauts_survive_a_file(tmp_path):
    names = ["a b.jpg", "b.jpg", "ü/ä b c.jpg", "b c.jpg"]
    pairs = exhaustive_pairs(names)
    write_pairs(tmp_path / "pairs.txt", pairs)
    assert read_pairs(tmp_path / "pairs.txt", names) == pairs


def test_names_that_begin_with_a_number_sign_survive_a_file(tmp_path):
    names = ["#1.jpg", "# 2.jpg", "a:3.jpg", "q\"4'.jpg"]
    pairs = exhaustive_pairs(names)
    write_pairs(tmp_path / "pairs.txt", pairs)
    with (tmp_path / "pairs.txt").open("a") as file:
        file.write("# a comment\n#1.jpg gone.jpg\n")
    assert read_pairs(tmp_path / "pairs.txt", names) == pairs


def test_frames_are_taken_in_natural_order():
    names = [f"frame_{i}.jpg" for i in range(1, 13)]
    pairs = sequential_pairs(sorted(names), overlap=1, quadratic=False)
    assert pairs == [(f"frame_{i}.jpg", f"frame_{i + 1}.jpg") for i in range(1, 12)]


def test_frames_of_two_cameras_are_taken_in_natural_order():
    names = [f"cam{c}/{i}.jpg" for c in (2, 10) for i in (9, 10, 11)]
    assert sequences_of(names) == [
        ["cam2/9.jpg", "cam2/10.jpg", "cam2/11.jpg"],
        ["cam10/9.jpg", "cam10/10.jpg", "cam10/11.jpg"],
    ]


def test_comments_empty_lines_and_a_byte_order_mark_are_left_out(tmp_path):
    (tmp_path / "p.txt").write_text("\ufeffa b\n\n# comment\nb a\na c\n", encoding="utf-8")
    assert read_pairs(tmp_path / "p.txt") == [("a", "b"), ("a", "c")]


@pytest.mark.parametrize("content", ["", "a\n", "a b c\n", "a nowhere\n"])
def test_bad_lists_of_pairs_are_named(tmp_path, content):
    path = tmp_path / "my pairs.txt"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"my pairs\.txt"):
        read_pairs(path, ["a", "b", "c"])


def test_a_binary_or_missing_file_is_named(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "p.txt", tmp_path / "none.txt", tmp_path):
        with pytest.raises(ConfigurationError, match=str(path)):
            read_pairs(path)


def test_overlap_below_one_is_refused():
    with pytest.raises(ConfigurationError, match="overlap"):
        sequential_pairs(["a", "b"], 0)


@given(st.permutations(range(9)), st.integers(1, 4), st.integers(1, 3))
def test_far_pairs_are_the_best_of_those_far_away(ranking, overlap, count):
    names = [f"{i}.jpg" for i in range(9)]
    similar = [(name, names[other]) for name in names for other in ranking if names[other] != name]
    found = far_pairs(similar, names, overlap, count)
    for i, name in enumerate(names):
        expected = [names[other] for other in ranking if abs(other - i) > overlap][:count]
        assert [other for first, other in found if first == name] == expected


def frames(folder: str, count: int = 6) -> list[str]:
    return [f"{folder}/frame_{i:03d}.jpg" for i in range(count)]


def test_cameras_side_by_side_have_a_chain_each_and_meet_at_every_moment():
    names = [*frames("cam0"), *frames("cam1"), *frames("cam2")]
    pairs = {frozenset(pair) for pair in sequential_pairs(names, overlap=1, quadratic=False)}
    chains = {frozenset(pair) for c in "012" for pair in zip(frames(f"cam{c}"), frames(f"cam{c}")[1:], strict=False)}
    moments = {
        frozenset({f"cam{a}/frame_{i:03d}.jpg", f"cam{b}/frame_{i:03d}.jpg"})
        for a, b in combinations("012", 2)
        for i in range(6)
    }
    assert pairs == chains | moments  # and not cam0's last with cam1's first


def test_folders_that_follow_one_another_are_one_sequence():
    names = ["day1/001.jpg", "day1/002.jpg", "day2/003.jpg", "day2/004.jpg"]
    assert ("day1/002.jpg", "day2/003.jpg") in sequential_pairs(names, overlap=1, quadratic=False)
    assert len(sequential_pairs(names, overlap=1, quadratic=False)) == 3


def test_loops_between_cameras_are_never_near():
    names = [*frames("cam0"), *frames("cam1")]
    similar = [("cam0/frame_000.jpg", other) for other in ("cam0/frame_001.jpg", "cam1/frame_001.jpg")]
    assert far_pairs(similar, names, overlap=2, count=5) == similar[1:]


IMAGES = 23


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random cameras far from the origin, and points seen by random images, by some of them twice."""
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=10, height=10, params=[9.0, 5.0, 5.0])
    )
    for i in range(IMAGES):
        rotation = pycolmap.Rotation3d(np.array([0.0, 1.0, 0.0]) * rng.uniform(0, np.pi))
        centre = np.array([4e5, 3e5, 0]) + rng.uniform(-10, 10, 3)
        pose = pycolmap.Rigid3d(rotation, -(rotation.matrix() @ centre))
        image = pycolmap.Image(name=f"db/{(i * 7) % IMAGES:02d} x.jpg", camera_id=1, image_id=i + 5)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0])) for _ in range(200)])
        model.add_image_with_trivial_frame(image, pose)
    used = Counter()
    for _ in range(150):
        track = pycolmap.Track()
        # the first images see most, the last one nothing
        seen = set((rng.random(rng.integers(2, 6)) ** 2 * (IMAGES - 1)).astype(int).tolist())
        for i in [*seen, *list(seen)[:1]]:
            track.add_element(i + 5, used[i])
            used[i] += 1
        model.add_point3D(rng.uniform(-1, 1, 3), track)
    folder = tmp_path_factory.mktemp("model")
    model.write(folder)
    return folder


def names(model):
    return sorted(image.name for image in pycolmap.Reconstruction(model).images.values())


@pytest.mark.parametrize("count", [1, 4, 100])
def test_covisibility_agrees_with_a_loop_over_points(model, count):
    reconstruction = pycolmap.Reconstruction(model)
    shared = {name: Counter() for name in names(model)}
    for point in reconstruction.points3D.values():
        seen = {reconstruction.images[element.image_id].name for element in point.track.elements}
        for a in seen:
            for b in seen - {a}:
                shared[a][b] += 1
    expected = []
    for a in names(model):
        expected += [(a, b) for b in sorted(shared[a], key=lambda b: (-shared[a][b], b))[:count]]
    assert covisibility_pairs(model, count) == expected
    assert len({a for a, _ in expected}) == IMAGES - 1


@pytest.mark.parametrize("rows", [1, 5, 128])
@pytest.mark.parametrize(("count", "max_angle"), [(3, 30), (100, 30), (5, 75), (100, 180)])
def test_poses_agree_with_a_loop_over_images(model, count, max_angle, rows, monkeypatch):
    monkeypatch.setattr(pairs_module, "_ROWS", rows)
    images = {image.name: image for image in pycolmap.Reconstruction(model).images.values()}
    expected = []
    for a in names(model):
        near = []
        for b in names(model):
            pose0, pose1 = (images[name].cam_from_world() for name in (a, b))
            axis0, axis1 = (pose.rotation.matrix()[2] for pose in (pose0, pose1))
            centre0, centre1 = (pose.inverse().translation for pose in (pose0, pose1))
            angle = np.degrees(np.arccos(np.clip(axis0 @ axis1, -1, 1)))
            if a != b and angle < max_angle:
                near.append((np.linalg.norm(centre0 - centre1), b))
        expected += [(a, b) for _, b in sorted(near)[:count]]
    assert pose_pairs(model, count, max_angle) == expected


def test_a_model_without_points_has_no_covisibility(model, tmp_path):
    reconstruction = pycolmap.Reconstruction(model)
    reconstruction.delete_all_points2D_and_points3D()
    reconstruction.write(tmp_path)
    assert covisibility_pairs(tmp_path, 3) == []
    assert len(pose_pairs(tmp_path, 3, 180)) == 3 * IMAGES


def test_bad_input_is_named(model, tmp_path):
    with pytest.raises(MappingError, match="no COLMAP model"):
        covisibility_pairs(tmp_path / "nowhere", 3)
    for pairs in (covisibility_pairs, pose_pairs):
        with pytest.raises(ConfigurationError, match="at least one neighbour"):
            pairs(model, 0)
    with pytest.raises(ConfigurationError, match="max_angle"):
        pose_pairs(model, 3, 0)


@pytest.mark.hloc
def test_hloc_pairs_the_same_images(model, tmp_path):
    pairs_from_poses = pytest.importorskip("hloc.pairs_from_poses", reason="hloc is not installed")
    pairs_from_poses.main(model, tmp_path / "poses.txt", 4, 30)
    lines = (tmp_path / "poses.txt").read_text().splitlines()
    ours = [f"{a} {b}" for a, b in pose_pairs(model, 4, 30)]
    assert sorted(lines) == sorted(ours)
