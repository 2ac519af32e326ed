"""Descriptors in memory: which stay there, and in which order pairs use them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

CACHE_BYTES = 1 << 30
"""Descriptors kept in memory, where nothing else is said."""

Image = TypeVar("Image", bound=Hashable)


class DescriptorCache(Generic[Image]):
    """Descriptors by image, read once while they fit into a number of bytes.

    Beyond it the least recently used are read again, of those that are not ``pinned``. The last two always stay.

    Args:
        read: gives the ``(N, D)`` descriptors of an image.
        limit: bytes.
    """

    def __init__(self, read: Callable[[Image], NDArray[np.floating]], limit: int) -> None:
        self.read = read
        self.limit = limit
        self.size = 0
        self.pinned: Collection[Image] = ()
        self.arrays: OrderedDict[Image, NDArray[np.floating]] = OrderedDict()

    def __getitem__(self, image: Image) -> NDArray[np.floating]:
        if image in self.arrays:
            self.arrays.move_to_end(image)
            return self.arrays[image]
        array = np.ascontiguousarray(self.read(image))
        self.arrays[image] = array
        self.size += array.nbytes
        if self.size > self.limit:
            self._shrink()
        return array

    def _shrink(self) -> None:
        for image in list(self.arrays)[:-2]:
            if image not in self.pinned:
                self.size -= self.arrays.pop(image).nbytes
                if self.size <= self.limit:
                    break


@dataclass(frozen=True)
class Block:
    """Images that stay in memory together, and the pairs matched meanwhile, as rows of the list of pairs."""

    images: frozenset[int]
    pairs: NDArray[np.int64]


def blocks_for_reuse(pairs: NDArray[np.int64], sizes: NDArray[np.int64], limit: int) -> Iterator[Block]:
    """Order pairs so that few images are read more than once.

    Images that are paired with each other are neighbours in a breadth-first walk over all pairs; a block is as many
    of its steps as fit. First come the pairs within a block, in their given order, then its pairs with images of later
    blocks, one such image after the other. All pairs of n images, of which k fit, take about n + n^2 / 2k reads, and
    pairs of neighbours in a sequence of any length about n.

    Args:
        pairs: ``(P, 2)`` numbers of images.
        sizes: ``(n,)`` bytes of each image's descriptors.
        limit: bytes that fit into memory.
    """
    order = _walk(pairs, len(sizes))
    rank = np.empty(len(sizes), np.int64)
    rank[order] = np.arange(len(sizes))
    block = np.empty(len(sizes), np.int64)
    block[order] = _pack(sizes[order], limit - 2 * int(sizes.max(initial=0)))  # room for two that pass by
    first, last = np.sort(rank[pairs], axis=1).T
    owner, other = block[order[first]], block[order[last]]
    position = np.where(owner == other, np.arange(len(pairs)), first)
    sequence = np.lexsort((position, np.where(owner == other, -1, last), owner))
    members = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    ends = np.searchsorted(owner[sequence], np.arange(len(members) + 1))
    for number, images in enumerate(members):
        if ends[number] < ends[number + 1]:
            yield Block(frozenset(images.tolist()), sequence[ends[number] : ends[number + 1]])


def _walk(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """All images, breadth first along the pairs, from the lowest number of each connected part."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.searchsorted(both[:, 0], np.arange(count + 1))
    seen = np.zeros(count, bool)
    order: list[int] = []
    for root in range(count):
        if seen[root]:
            continue
        seen[root] = True
        waiting = deque([root])
        while waiting:
            image = waiting.popleft()
            order.append(image)
            found = np.unique(both[starts[image] : starts[image + 1], 1])
            found = found[~seen[found]]
            seen[found] = True
            waiting.extend(found.tolist())
    return np.array(order, np.int64)


def _pack(sizes: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Number consecutive things by blocks of at most ``limit`` together, or one by one where even one is more."""
    result = np.empty(len(sizes), np.int64)
    number, total = 0, 0
    for i, size in enumerate(sizes.tolist()):
        if total and total + size > limit:
            number, total = number + 1, 0
        result[i] = number
        total += size
    return result
