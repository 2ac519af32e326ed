from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.sfm.pairs import exhaustive_pairs, far_pairs, sequences_of, sequential_pairs
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
