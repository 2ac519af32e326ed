"""Turns of all images from votes of pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.orientation.synchronisation import Edge, Groups, best_turn, synchronise
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
    turns = synchronise(Groups(names(count)), edges, {}, eighths=False)
    offsets = {(turns[name] - truth[name]) % 360 for name in truth}
    assert len(offsets) == 1
    # most stay as they are
    counts = np.unique(list(turns.values()), return_counts=True)
    assert counts[1][list(counts[0]).index(0)] == counts[1].max()


def test_images_without_votes_stay() -> None:
    turns = synchronise(Groups(["a", "b", "c"]), [edge("a", "b", 180)], {})
    assert turns == {"a": 0, "b": 180, "c": 0}


def test_those_that_say_how_they_are_held_stay() -> None:
    edges = [edge("a", "c", 90), edge("b", "c", 90), edge("a", "b", 0)]
    assert synchronise(Groups("abc"), edges, {}) == {"a": 0, "b": 0, "c": 270}
    assert synchronise(Groups("abc"), edges, {"c": 3.0}) == {"a": 90, "b": 90, "c": 0}


def test_groups_move_together() -> None:
    groups = Groups(names(5))
    groups.join("000", "001")
    groups.join("003", "004")
    groups.join("001", "002")
    found = synchronise(groups, [edge("004", "001", -90, 150), edge("002", "003", 85, 20)], {})
    assert found == {"000": 0, "001": 0, "002": 0, "003": 270, "004": 270}


def test_a_turn_needs_twice_the_evidence_of_none() -> None:
    """Facades with as many windows upside down: both turns have votes."""
    assert best_turn({"b": [(180, 150), (0, 100)]}, {"b": 0}) == (100, 0)
    assert best_turn({"b": [(180, 250), (0, 100)]}, {"b": 0}) == (250, 180)


def test_weak_votes_turn_nothing_but_queries() -> None:
    assert best_turn({"b": [(180, 30)]}, {"b": 0}) == (0, 0)
    assert best_turn({"b": [(180, 30)]}, {"b": 0}, least=0) == (30, 180)
    assert best_turn({"b": [(180, 30), (180, 40)]}, {"b": 0}) == (70, 180)


def test_eighths_are_taken_where_quarters_do_not_fit() -> None:
    assert best_turn({"b": [(47, 100)]}, {"b": 0})[1] == 45
    assert best_turn({"b": [(62, 300)]}, {"b": 0})[1] == 90
    assert best_turn({"b": [(47, 100)]}, {"b": 0}, eighths=False)[1] in (0, 90)
    assert best_turn({"b": [(20, 100)]}, {"b": 0})[1] == 0


def test_groups_are_listed_by_size() -> None:
    groups = Groups("abcdef")
    for first, second in ("bc", "cf", "ad"):
        groups.join(first, second)
    assert list(groups.members().values()) == [["b", "c", "f"], ["a", "d"], ["e"]]
    assert groups.find("f") == groups.find("b") != groups.find("a")
