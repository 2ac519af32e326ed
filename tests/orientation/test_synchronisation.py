"""Turns of all images from votes of pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.orientation.synchronisation import AT_WILL, Edge, Groups, Rules, best_turn, synchronise
from posfeat_hloc.orientation.votes import Vote, wrapped


def edge(first: str, second: str, angle: float, evidence: float = 100.0) -> Edge:
    return Edge(first, second, Vote(evidence, angle))


def names(count: int) -> list[str]:
    return [f"{number:03}" for number in range(count)]


@given(st.integers(2, 25), st.integers(0, 10_000))
def test_quarter_turns_are_found_in_spite_of_wrong_votes(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = dict(zip(names(count), 90 * rng.integers(4, size=count), strict=True))
    edges = []
    for first in range(count):
        for second in {first - 1, *rng.integers(count, size=3)}:
            a, b = names(count)[first], names(count)[int(second) % count]
            if a != b:
                angle = wrapped(float(truth[a] - truth[b] + rng.normal(0, 8)))
                edges.append(edge(a, b, angle, rng.uniform(80, 300)))
    for _ in range(count // 2):
        a, b = rng.choice(names(count), 2, replace=False)
        edges.append(edge(a, b, float(rng.uniform(-180, 180)), rng.uniform(17, 40)))
    turns = synchronise(names(count), edges, {}, Rules(eighths=False))
    offsets = {(turns[name] - truth[name]) % 360 for name in truth}
    assert len(offsets) == 1
    # most stay as they are
    counts = np.unique(list(turns.values()), return_counts=True)
    assert counts[1][list(counts[0]).index(0)] == counts[1].max()


def test_images_without_votes_stay() -> None:
    turns = synchronise(["a", "b", "c"], [edge("a", "b", 180)], {})
    assert turns == {"a": 0, "b": 180, "c": 0}


def test_those_that_say_how_they_are_held_stay() -> None:
    edges = [edge("a", "c", 90), edge("b", "c", 90), edge("a", "b", 0)]
    assert synchronise("abc", edges, {}) == {"a": 0, "b": 0, "c": 270}
    assert synchronise("abc", edges, {"c": 3.0}) == {"a": 90, "b": 90, "c": 0}


def test_images_that_agree_move_together() -> None:
    alike = [edge(first, second, 3, 900) for first, second in (("000", "001"), ("003", "004"), ("001", "002"))]
    found = synchronise(names(5), [*alike, edge("004", "001", -90, 150), edge("002", "003", 85, 20)], {})
    assert found == {"000": 0, "001": 0, "002": 0, "003": 270, "004": 270}


def test_weak_votes_hold_nothing_together_that_strong_ones_turn() -> None:
    """A door looks a little like itself upside down: the first and the last image lie alike, by weak votes only."""
    strong = [edge("000", "001", 90, 1700), edge("001", "002", 90, 1600), edge("001", "003", 92, 1500)]
    truth = {"000": 180, "001": 90, "002": 0, "003": 0}
    assert synchronise(names(4), [*strong, edge("000", "002", 7, 60), edge("000", "003", -9, 19)], {}) == truth


def test_what_is_hardly_clearer_turned_stays() -> None:
    votes = [edge("000", "001", 180, 200), edge("001", "002", 0, 150), edge("000", "002", 0, 150)]
    assert set(synchronise(names(3), votes, {}).values()) == {0}
    assert synchronise(names(3), [edge("000", "001", 180, 200), votes[1]], {})["000"] == 180


def test_opposite_sides_of_a_table_stay() -> None:
    """As they may both be upright; where images are turned at will, the angle itself counts."""
    votes = [Edge("000", "001", Vote(170.0, 180.0, upright=True)), edge("001", "002", 178, 40)]
    assert set(synchronise(names(3), votes, {}).values()) == {0}
    assert set(synchronise(names(2), votes[:1], {}, AT_WILL).values()) == {0, 180}


def test_a_turn_needs_twice_the_evidence_of_none() -> None:
    """Facades with as many windows upside down: both turns have votes."""
    assert best_turn([(180, 150), (0, 100)], Rules()) == (100, 0)
    assert best_turn([(180, 250), (0, 100)], Rules()) == (250, 180)


def test_weak_votes_turn_nothing_but_queries() -> None:
    assert best_turn([(180, 30)], Rules()) == (0, 0)
    assert best_turn([(180, 30)], Rules(least=0)) == (30, 180)
    assert best_turn([(180, 30), (180, 40)], Rules()) == (70, 180)


def test_eighths_are_taken_where_quarters_do_not_fit() -> None:
    assert best_turn([(47, 100)], Rules())[1] == 45
    assert best_turn([(62, 300)], Rules())[1] == 90
    assert best_turn([(47, 100)], Rules(eighths=False))[1] in (0, 90)
    assert best_turn([(20, 100)], Rules())[1] == 0


def test_groups_are_listed_by_size() -> None:
    groups = Groups("abcdef")
    for first, second in ("bc", "cf", "ad"):
        groups.join(first, second)
    assert list(groups.members().values()) == [["b", "c", "f"], ["a", "d"], ["e"]]
    assert groups.find("f") == groups.find("b") != groups.find("a")
