"""From votes of pairs to the rotation of every image.

The surest votes are followed first: each joins two clusters of images whose relative turns are settled, in the turn
that most evidence between the two supports. So a few windows that look alike upside down do not hold together what
hundreds of matches turn. Then each image is reconsidered, and what is not clearly better turned stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from posfeat_hloc.orientation.looks import AS_IT_IS, Look
from posfeat_hloc.orientation.votes import AGREES, EVIDENCE, Vote, wrapped

TURN_EVIDENCE = 60.0
"""Evidence for turning images of a collection: people hold cameras upright."""

_REACH = 60.0  # degrees off an angle at which its evidence counts for nothing
_EIGHTH_GAIN = 1.5  # evidence for an odd number of eighth turns, relative to that for quarter turns
_TURN_GAIN = 2.0  # evidence for a turn, relative to that for none
_CHANGE_GAIN = 1.5  # evidence for another turn of an image than its cluster's, relative to that one
_ROUNDS = 5

Angles = Sequence[tuple[float, float]]
"""Degrees clockwise by which something must be turned, each with its evidence."""


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

    def agrees(self, upright: bool = True) -> bool:
        """Whether both images have the same orientation unrotated; see :meth:`Vote.turn`."""
        return abs(self.vote.turn(upright)) <= AGREES


class Groups:
    """Images that were joined, each set of them known by one of its members (union and find)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}

    def find(self, name: str) -> str:
        """The representative of the group of an image."""
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, first: str, second: str) -> None:
        """Merge two groups; the smaller name represents them."""
        one, other = sorted((self.find(first), self.find(second)))
        self._parent[other] = one

    def members(self) -> dict[str, list[str]]:
        """Groups, the largest first."""
        found: dict[str, list[str]] = {}
        for name in self._parent:
            found.setdefault(self.find(name), []).append(name)
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


@dataclass(frozen=True)
class Rules:
    """Evidence that a rotation needs.

    Attributes:
        least: evidence for a turn.
        eighths: allow odd multiples of 45 degrees where they fit clearly better.
        upright: whether people are expected to hold cameras upright, see :meth:`Vote.turn`.
    """

    least: float = TURN_EVIDENCE
    eighths: bool = True
    upright: bool = True


AT_WILL = Rules(least=1.5 * EVIDENCE, upright=False)
"""For collections many of whose images are turned."""


def synchronise(
    names: Sequence[str], edges: Sequence[Edge], weights: Mapping[str, float], rules: Rules | None = None
) -> dict[str, int]:
    """Rotations in degrees clockwise, multiples of 45, with the most evidence; 0 without evidence.

    Args:
        names: of images.
        edges: votes that count.
        weights: of images, 1 where missing: of images that lie alike, those with the larger sum stay as they are.
        rules: see :class:`Rules`.
    """
    rules = rules or Rules()
    clusters = _Clusters(names, edges, weights, rules.upright)

    def sureness(edge: Edge) -> float:
        return edge.vote.evidence * (_TURN_GAIN if edge.agrees(rules.upright) else 1.0)

    for edge in sorted(edges, key=sureness, reverse=True):
        clusters.join(edge.first, edge.second, rules)
    clusters.look_again(rules)
    return clusters.turns


def best_turn(angles: Angles, rules: Rules) -> tuple[float, int]:
    """The rotation with most evidence, and that evidence; 0 or a multiple of 90 if others are not clearly better."""
    support = {turn: _support(turn, angles) for turn in range(0, 360, 45)}
    best = max((0, 90, 180, 270), key=lambda turn: (support[turn], -turn))
    if support[best] < max(rules.least, _TURN_GAIN * support[0]):
        best = 0
    odd = max((45, 135, 225, 315), key=lambda turn: (support[turn], -turn))
    if rules.eighths and support[odd] > max(rules.least, _EIGHTH_GAIN * support[best]):
        best = odd
    return support[best], best


def _support(turn: float, angles: Angles) -> float:
    """Evidence for a turn; an angle that is off counts less."""
    return sum(evidence * max(0.0, 1 - abs(wrapped(angle - turn)) / _REACH) for angle, evidence in angles)


class _Clusters:
    """Images whose turns relative to each other are settled; most of each cluster's weight is not turned."""

    def __init__(
        self, names: Sequence[str], edges: Sequence[Edge], weights: Mapping[str, float], upright: bool
    ) -> None:
        self.turns = dict.fromkeys(names, 0)
        self._weights = {name: weights.get(name, 1.0) for name in names}
        self._votes: dict[str, list[tuple[str, float, float]]] = {name: [] for name in names}
        for edge in edges:
            angle = edge.vote.turn(upright)
            self._votes[edge.first].append((edge.second, angle, edge.vote.evidence))
            self._votes[edge.second].append((edge.first, -angle, edge.vote.evidence))
        self._home = {name: name for name in names}
        self._members = {name: [name] for name in names}

    def join(self, first: str, second: str, rules: Rules) -> None:
        """Merge the clusters of two images; the smaller one is rotated by the rotation with most evidence."""
        heavy, light = sorted((self._home[first], self._home[second]), key=self._heaviest_first)
        if heavy == light:
            return
        moved = self._members.pop(light)
        inside = set(self._members[heavy])
        turn = best_turn([vote for name in moved for vote in self._to_be_turned(name, inside)], rules)[1]
        for name in moved:
            self.turns[name] = (self.turns[name] + turn) % 360
            self._home[name] = heavy
        self._members[heavy] += moved
        if turn:
            self._keep_most(self._members[heavy])

    def look_again(self, rules: Rules) -> None:
        """Rotate single images where all others clearly agree; undo rotations that are not better than none."""
        for _ in range(_ROUNDS):
            if not [name for name in self.turns if self._reconsidered(name, rules)]:
                break
        for members in self._members.values():
            self._keep_most(members)
            if any(self.turns[name] for name in members) and not self._is_clear(members):
                self.turns.update(dict.fromkeys(members, 0))

    def _to_be_turned(self, name: str, others: Iterable[str] | None = None) -> Angles:
        """By how much more an image must be turned to lie as others do, as those are turned now."""
        return [
            (angle + self.turns[other] - self.turns[name], evidence)
            for other, angle, evidence in self._votes[name]
            if others is None or other in others
        ]

    def _reconsidered(self, name: str, rules: Rules) -> bool:
        """Whether an image was turned otherwise than before."""
        angles = self._to_be_turned(name)
        now, step = _support(0, angles), 45 if rules.eighths else 90
        support, turn = max((_support(turn, angles), -turn) for turn in range(0, 360, step))
        if support <= max(rules.least, _CHANGE_GAIN * now):
            return False
        self.turns[name] = (self.turns[name] - turn) % 360
        return True

    def _is_clear(self, members: Sequence[str]) -> bool:
        """Whether votes between images that are turned differently agree far better than with no turn."""
        unlike = [
            (angle, self.turns[name] - self.turns[other], evidence)
            for name in members
            for other, angle, evidence in self._votes[name]
            if self.turns[other] != self.turns[name]
        ]
        chosen, none = (
            sum(_support(turn * factor, [(angle, evidence)]) for angle, turn, evidence in unlike) for factor in (1, 0)
        )
        return chosen > _TURN_GAIN * none

    def _keep_most(self, members: Sequence[str]) -> None:
        """Turn all images of a cluster so that most stay as they are."""
        sums: dict[int, float] = {}
        for name in members:
            sums[self.turns[name]] = sums.get(self.turns[name], 0.0) + self._weights[name]
        offset = max(sums, key=lambda turn: (sums[turn], turn == 0, -turn))
        for name in members if offset else ():
            self.turns[name] = (self.turns[name] - offset) % 360

    def _heaviest_first(self, home: str) -> tuple[float, str]:
        return -sum(self._weights[name] for name in self._members[home]), home
