"""Which images are worth comparing, before any features are extracted: similar small images, neighbours by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.orientation.looks import AS_IT_IS, SIZE, Look, Looks
from posfeat_hloc.orientation.synchronisation import AT_WILL, TURN_EVIDENCE, Edge, Groups, Rules, synchronise
from posfeat_hloc.orientation.votes import SmallFeatures, vote
from posfeat_hloc.retrieval.vlad import k_means, vlad
from posfeat_hloc.runtime.computation import computing_threads, in_order

NEIGHBORS = 2
"""Images on each side, in the order of names."""

_WORDS = 16  # of the vocabulary
_LEARN_FROM = 256  # images
_SAMPLES = 100  # descriptors of each


class Similarity:
    """Small images that are searched for those most similar to another one, by VLAD of their few descriptors.

    Args:
        read: gives the small features of an image.
        names: of the images.
    """

    def __init__(self, read: Callable[[str], SmallFeatures], names: Sequence[str]) -> None:
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._words = self._learn(read)
        self._found = np.zeros((len(self.names), self._words.numel()), np.float32)
        for row, name in enumerate(self.names):
            self._found[row] = self._describe(read(name))

    def nearest(self, features: SmallFeatures, without: str | None = None) -> list[str]:
        """All images but ``without``, the most similar to a small image first."""
        order = np.argsort(-(self._found @ self._describe(features)), kind="stable")
        return [self.names[row] for row in order if self.names[row] != without]

    def beside(self, name: str) -> list[str]:
        """Neighbours in the order of names, the nearest first."""
        row = self._rows[name]
        steps = [sign * step for step in range(1, NEIGHBORS + 1) for sign in (1, -1)]
        return [self.names[row + step] for step in steps if 0 <= row + step < len(self.names)]

    def _learn(self, read: Callable[[str], SmallFeatures]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        parts = []
        for name in self.names[:: -(-len(self.names) // _LEARN_FROM) or 1]:
            local = _tensor(read(name))
            parts.append(local[torch.randperm(len(local), generator=generator)[:_SAMPLES]])
        samples = torch.cat([part for part in parts if len(part)] or [torch.zeros(0, 1)])
        return k_means(samples, min(_WORDS, len(samples))) if len(samples) else samples

    def _describe(self, features: SmallFeatures) -> NDArray[np.float32]:
        local = _tensor(features)
        if not len(local) or not len(self._words):
            return np.zeros(self._words.numel(), np.float32)
        return np.asarray(vlad(local, self._words).numpy(), np.float32)


def _tensor(features: SmallFeatures) -> Tensor:
    return torch.from_numpy(features.descriptors.astype(np.float32))


PARTNERS = 8
"""Images that an image is compared with at most, as they are."""

TURNED_PARTNERS = 4
"""Most similar images that an image is compared with in each further turn, besides its neighbours by name."""

FEW = 12
"""Up to so many images, all are compared with all."""

ENOUGH = 2
"""Images that an image has to agree with to be looked at no further."""

SPEAKERS = 12
"""Images of a group that are looked at in further turns; for the others, too."""

QUARTERS, EIGHTHS = (90, 180, 270), (45, 135, 225, 315)

HALF, SMALLEST = 0.5, 0.25
"""Sizes of second images, relative to the usual one."""

NEAR = 1.7
"""Ratio of the sizes of the same things in two images above which one was taken from much nearer."""

TURNED_AT_WILL = 0.2
"""Share of images that are turned, above which nobody took care to hold the camera upright."""

_Test = tuple[str, Look, str, Look]


@dataclass
class Election:
    """The votes of all compared pairs.

    Attributes:
        looks: small pictures.
        names: of images that can be read.
        resize_max: longest side that features are extracted at; None for that of the files.
        groups: of images that agree.
        edges: votes that count.
        tests: pairs of images that were compared.
    """

    looks: Looks
    names: list[str]
    groups: Groups
    resize_max: int | None = None
    edges: list[Edge] = field(default_factory=list)
    tests: int = 0
    _done: set[_Test] = field(default_factory=set)

    @classmethod
    def of(cls, looks: Looks, names: Sequence[str], resize_max: int | None = None) -> Election:
        """Look at all images as they are; no votes yet."""
        able = looks.look(list(names))
        return cls(looks, able, Groups(able), resize_max)

    def hold(self) -> dict[str, int]:
        """Compare as many pairs as needed; returns the rotations of all images in degrees clockwise."""
        if len(self.names) < 2:
            return dict.fromkeys(self.names, 0)
        search = Similarity(self.looks.features, self.names)
        self._as_they_are(search)
        self._turned(search, QUARTERS, self._speakers())
        if lonely := self._lonely(self._at_will()):
            self._turned(search, EIGHTHS, lonely)
        apart = self._unconnected()
        if 0 < len(apart) <= max(2 * SPEAKERS, len(self.names) // 10):
            self._sizes(search, apart)
        return self._turns()

    def _turns(self) -> dict[str, int]:
        return self._under(AT_WILL if self._at_will() else Rules())

    def _under(self, rules: Rules) -> dict[str, int]:
        weights = {name: 2.0 if self.looks.says_upright(name) else 1.0 for name in self.names}
        return synchronise(self.names, self.edges, weights, rules)

    def _at_will(self) -> bool:
        """Whether so many images are turned, by evidence that suffices among upright ones, that less will do."""
        return sum(map(bool, self._under(Rules()).values())) >= max(2, TURNED_AT_WILL * len(self.names))

    def _as_they_are(self, search: Similarity) -> None:
        """Join images that agree, each with its most similar ones, until it has enough of them in the largest group."""
        agreed: Counter[str] = Counter()
        partners = {name: self._partners(search, name) for name in self.names}
        for number in range(max(map(len, partners.values()))):
            largest = next(iter(self.groups.members()))
            asking = [
                name
                for name in self.names
                if number < len(partners[name])
                and (agreed[name] < ENOUGH or (number > ENOUGH and self.groups.find(name) != largest))
            ]
            pairs = {tuple(sorted((name, partners[name][number]))) for name in asking}
            for edge in self._compare((a, AS_IT_IS, b, AS_IT_IS) for a, b in sorted(pairs)):
                if edge.agrees():
                    self.groups.join(edge.first, edge.second)
                    agreed.update((edge.first, edge.second))

    def _partners(self, search: Similarity, name: str) -> list[str]:
        similar, beside = search.nearest(self.looks.features(name), name), search.beside(name)
        if len(self.names) <= FEW:
            return similar
        mixed = [other for pair in zip(similar, beside, strict=False) for other in pair]
        return list(dict.fromkeys([*mixed, *similar[:PARTNERS]]))[:PARTNERS]

    def _speakers(self) -> list[str]:
        """Images of all groups but the largest, of large ones some, spread over their names."""
        groups = list(self.groups.members().values())[1:]
        return sorted(name for members in groups for name in members[:: -(-len(members) // SPEAKERS)])

    def _turned(self, search: Similarity, turns: Iterable[int], names: Sequence[str]) -> None:
        """Compare images in further turns with images of other groups as they are."""
        tests: list[_Test] = []
        for turn in turns if names else ():
            look = Look(turn)
            able = self.looks.look(names, look)
            tests += [test for name in able for test in self._against(search, name, look)]
        self._compare(tests)

    def _against(self, search: Similarity, name: str, look: Look, shown: Look = AS_IT_IS) -> list[_Test]:
        here = self.groups.find(name)
        similar = search.nearest(self.looks.features(name, look), name)
        found = [other for other in similar if self.groups.find(other) != here]
        beside = [other for other in search.beside(name) if self.groups.find(other) != here]
        few = len(self.names) <= FEW
        chosen = found if few else list(dict.fromkeys([*found[:TURNED_PARTNERS], *beside]))
        return [(name, look, partner, shown) for partner in chosen]

    def _unconnected(self) -> list[str]:
        """Images that no votes connect with most others that could turn them, of large groups some."""
        connected = Groups(self.names)
        for edge in self._sure():
            connected.join(edge.first, edge.second)
        parts = list(connected.members().values())[1:]
        return sorted(name for members in parts for name in members[:: -(-len(members) // SPEAKERS)])

    def _lonely(self, at_will: bool) -> list[str]:
        """Images that little is known of; in a collection that is upright so far, only where they are few."""
        known = {name for edge in self._sure() for name in (edge.first, edge.second)}
        found = [name for name in self.names if name not in known]
        return found if at_will or len(found) <= max(2, len(self.names) // 10) else []

    def _sure(self) -> list[Edge]:
        """Votes that could decide by themselves."""
        return [edge for edge in self.edges if edge.agrees() or edge.vote.evidence > TURN_EVIDENCE]

    def _sizes(self, search: Similarity, names: Sequence[str]) -> None:
        """Compare images that nothing is known of in half the size, and others in half the size with them."""
        looks = [Look(turn) for turn in (0, *QUARTERS)]
        tests = []
        for look in looks:
            half = Look(look.turn, HALF)
            for name in self.looks.look(names, half):
                tests += self._against(search, name, half)
        small = self.looks.stored(self.names, Look(0, HALF))
        others = Similarity(small.__getitem__, list(small))
        for look in looks:
            for name in self.looks.look(names, look):
                tests += self._against(others, name, look, Look(0, HALF))
        self._compare(tests)

    def second_sizes(self) -> dict[str, float]:
        """Image -> size of its second picture, relative to the usual one: of those that show larger what others show
        smaller at the sizes that features are extracted at, where no images of the same size connect the two."""
        alike = Groups(self.names)
        ratios = [self._ratio(edge) for edge in self.edges]
        for edge, ratio in zip(self.edges, ratios, strict=True):
            if 1 / NEAR < ratio < NEAR:
                alike.join(edge.first, edge.second)
        largest: dict[str, float] = {}
        for edge, ratio in zip(self.edges, ratios, strict=True):
            if alike.find(edge.first) != alike.find(edge.second):
                near = edge.second if ratio > 1 else edge.first
                largest[near] = max(largest.get(near, 1.0), ratio, 1 / ratio)
        return {name: max(SMALLEST, 0.5 ** round(np.log2(ratio))) for name, ratio in sorted(largest.items())}

    def _ratio(self, edge: Edge) -> float:
        """Size of things in the second image, relative to the first, in the pictures that features are extracted of."""
        return edge.usual_scale * self._enlarged(edge.second) / self._enlarged(edge.first)

    def _enlarged(self, name: str) -> float:
        """How much larger than its small picture an image is extracted."""
        longest = max(self.looks.size(name))
        return min(longest, self.resize_max or longest) / min(longest, SIZE)

    def _compare(self, tests: Iterable[_Test]) -> list[Edge]:
        """Votes that count among those of pairs that were not compared so before; they are kept, too."""
        todo = [test for test in dict.fromkeys(tests) if test not in self._done]
        self._done.update(todo)
        self.tests += len(todo)

        def work(test: _Test) -> Edge | None:
            first, look0, second, look1 = test
            frames = self.looks.frame(first), self.looks.frame(second)
            features = self.looks.features(first, look0), self.looks.features(second, look1)
            found = vote(*features, frames, look0.turn - look1.turn)
            return Edge(first, second, found, (look0, look1)) if found.counts else None

        with computing_threads(torch.get_num_threads()) as pool:
            found = [edge for edge in in_order(pool, work, todo, ahead=8) if edge is not None]
        self.edges += found
        return found
