"""From votes of pairs to the turn of every image.

Images that agree as they are move together: groups of them are what is turned, so that nothing but evidence between
groups can turn an image. The largest group stays, the others are placed one by one where most evidence puts them, and
each is looked at again after all have been placed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from posfeat_hloc.orientation.looks import AS_IT_IS, Look
from posfeat_hloc.orientation.votes import AGREES, Vote, wrapped

_REACH = 60.0  # degrees off an angle at which its evidence counts for nothing
_EIGHTH_GAIN = 1.5  # evidence for an odd number of eighth turns, relative to that for quarter turns
TURN_EVIDENCE = 60.0
"""Evidence for turning images of a collection: people hold cameras upright, and what lies on a table looks turned from
the table's other side."""

_TURN_GAIN = 2.0  # evidence for a turn, relative to that for none
_ROUNDS = 5


@dataclass(frozen=True)
class Edge:
    """A vote that counts between two images, and how they were looked at."""

    first: str
    second: str
    vote: Vote
    looks: tuple[Look, Look] = (AS_IT_IS, AS_IT_IS)

    @property
    def usual_scale(self) -> float:
        """Size of things in the second image, relative to the first, had both been looked at in the usual size."""
        return self.vote.scale * self.looks[0].size / self.looks[1].size

    def agrees(self) -> bool:
        """Whether both images lie alike as they are."""
        return abs(self.vote.angle) <= AGREES


class Groups:
    """Images that were joined, each set of them known by one of its members (union and find)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def find(self, name: str) -> str:
        """The member that stands for the group of an image."""
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, first: str, second: str) -> None:
        """Make one group of two; the smaller name stands for it."""
        one, other = sorted((self.find(first), self.find(second)))
        self._parent[other] = one

    def members(self) -> dict[str, list[str]]:
        """Groups, the largest first."""
        found: dict[str, list[str]] = {}
        for name in self._parent:
            found.setdefault(self.find(name), []).append(name)
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def synchronise(
    groups: Groups, edges: Sequence[Edge], weights: Mapping[str, float], eighths: bool = True
) -> dict[str, int]:
    """Turns in degrees clockwise, multiples of 45, under which most evidence agrees; 0 where there is none.

    Args:
        groups: images that agree.
        edges: votes that count between images of different groups; others are not looked at.
        weights: of images: which of those that lie alike stay as they are is decided by the larger sum.
        eighths: allow odd multiples of 45 where they fit clearly better.
    """
    members = groups.members()
    between = _between(groups, edges)
    turns: dict[str, int] = {}
    for start in members:
        if start in turns:
            continue
        turns[start] = 0
        placed = [start]
        while candidates := [g for g in members if g not in turns and any(o in turns for o in between.get(g, {}))]:
            scored = [(best_turn(between[g], turns, eighths), g) for g in candidates]
            (_, turn), best = max(scored, key=lambda item: (item[0][0], item[1]))
            turns[best] = turn
            placed.append(best)
        _look_again(placed, between, turns, eighths)
        _keep_most(placed, members, turns, weights)
    return {name: turns[group] for group, names in members.items() for name in names}


Votes = dict[str, dict[str, list[tuple[float, float]]]]
"""Group -> other group -> angles by which the first must be turned to lie as the other, with their evidence."""


def _between(groups: Groups, edges: Sequence[Edge]) -> Votes:
    result: Votes = {}
    for edge in edges:
        first, second = groups.find(edge.first), groups.find(edge.second)
        if first != second:
            result.setdefault(first, {}).setdefault(second, []).append((edge.vote.angle, edge.vote.evidence))
            result.setdefault(second, {}).setdefault(first, []).append((-edge.vote.angle, edge.vote.evidence))
    return result


def _support(turn: int, votes: Mapping[str, list[tuple[float, float]]], turns: Mapping[str, int]) -> float:
    """Evidence for a turn of a group, given those of others; an angle that is off counts less."""
    return sum(
        evidence * max(0.0, 1 - abs(wrapped(angle - (turn - turns[other]))) / _REACH)
        for other, found in votes.items()
        if other in turns
        for angle, evidence in found
    )


def best_turn(
    votes: Mapping[str, list[tuple[float, float]]],
    turns: Mapping[str, int],
    eighths: bool = True,
    least: float = TURN_EVIDENCE,
) -> tuple[float, int]:
    """The turn with most evidence, and that evidence; none, or a quarter, where others are not clearly better.

    Args:
        votes: other group -> angles by which this one must be turned to lie as that one, with their evidence.
        turns: of the others.
        eighths: allow odd multiples of 45.
        least: evidence that a turn needs.
    """
    support = {turn: _support(turn, votes, turns) for turn in range(0, 360, 45)}
    best = max((0, 90, 180, 270), key=lambda turn: (support[turn], -turn))
    if support[best] < max(least, _TURN_GAIN * support[0]):
        best = 0
    odd = max((45, 135, 225, 315), key=lambda turn: (support[turn], -turn))
    if eighths and support[odd] > max(least, _EIGHTH_GAIN * support[best]):
        best = odd
    return support[best], best


def _look_again(placed: Sequence[str], between: Votes, turns: dict[str, int], eighths: bool) -> None:
    for _ in range(_ROUNDS):
        before = dict(turns)
        for group in placed[1:]:
            others = {name: turn for name, turn in turns.items() if name != group}
            turns[group] = best_turn(between[group], others, eighths)[1]
        if turns == before:
            return


def _keep_most(
    placed: Sequence[str], members: Mapping[str, list[str]], turns: dict[str, int], weights: Mapping[str, float]
) -> None:
    """Turn all groups that are joined so that most of their images stay as they are."""
    sums: dict[int, float] = {}
    for group in placed:
        weight = sum(weights.get(name, 1.0) for name in members[group])
        sums[turns[group]] = sums.get(turns[group], 0.0) + weight
    offset = max(sums, key=lambda turn: (sums[turn], turn == 0, -turn))
    for group in placed:
        turns[group] = (turns[group] - offset) % 360
