"""The order of pairs: every pair once, few images read twice, never more in memory than allowed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from posfeat_hloc.matchers.descriptor_cache import DescriptorCache, blocks_for_reuse

SIZE = 100


def simulate(pairs: list[tuple[int, int]], sizes: list[int], limit: int) -> tuple[list[int], list[int], int]:
    """Images in the order in which they are read, pairs as they are matched, and the most bytes held for a pair."""
    reads: list[int] = []

    def read(image: int) -> NDArray[np.float16]:
        reads.append(image)
        return np.zeros((sizes[image] // 2, 1), np.float16)

    cache = DescriptorCache(read, limit)
    order, most = [], 0
    for block in blocks_for_reuse(np.array(pairs, np.int64).reshape(-1, 2), np.array(sizes, np.int64), limit):
        cache.pinned = block.images
        for row in block.pairs.tolist():
            for image in pairs[row]:
                assert cache[image].nbytes == sizes[image] // 2 * 2
            order.append(row)
            most = max(most, sum(array.nbytes for array in cache.arrays.values()))
    return reads, order, most


def exhaustive(images: int) -> list[tuple[int, int]]:
    return list(combinations(range(images), 2))


def sequential(images: int, overlap: int = 10) -> list[tuple[int, int]]:
    return [(i, j) for i in range(images) for j in range(i + 1, min(images, i + 1 + overlap))]


@given(
    images=st.integers(1, 25),
    chosen=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=80, unique=True),
    sizes=st.lists(st.integers(0, 40).map(lambda n: 2 * n), min_size=25, max_size=25),
    limit=st.integers(0, 2000),
)
def test_every_pair_comes_once_within_the_limit(
    images: int, chosen: list[tuple[int, int]], sizes: list[int], limit: int
) -> None:
    pairs = [(a % images, b % images) for a, b in chosen]
    reads, order, most = simulate(pairs, sizes[:images], limit)
    assert sorted(order) == list(range(len(pairs)))
    assert most <= max(limit, 4 * max(sizes, default=0))
    if sum(sizes[:images]) + 2 * max(sizes) <= limit:
        assert len(reads) == len(set(reads))
        assert order == sorted(order)  # nothing to gain: the order is kept


@pytest.mark.parametrize("kept", [6, 12, 22, 42])
def test_all_pairs_are_read_by_the_block(kept: int) -> None:
    """n images of which k = kept - 2 stay: each of n / k blocks is read, and all later images pass by it once."""
    images, block = 80, kept - 2
    pairs = exhaustive(images)
    reads, _, most = simulate(pairs, [SIZE] * images, kept * SIZE)
    assert most <= kept * SIZE
    later = sum(images - start - block for start in range(0, images - block, block))
    assert images <= len(reads) <= images + later
    in_given_order, _, _ = naive(pairs, kept)
    assert len(reads) < in_given_order / min(4, block / 4)


def naive(pairs: list[tuple[int, int]], kept: int) -> tuple[int, int, int]:
    """Reads where the least recently used image goes and pairs come as they are."""
    reads = 0

    def read(image: int) -> NDArray[np.float16]:
        nonlocal reads
        reads += 1
        return np.zeros((SIZE // 2, 1), np.float16)

    cache = DescriptorCache(read, kept * SIZE)
    for pair in pairs:
        for image in pair:
            cache[image]
    return reads, 0, 0


def test_reads_of_a_sequence_grow_with_its_length() -> None:
    counts = [len(simulate(sequential(n), [SIZE] * n, 42 * SIZE)[0]) for n in (200, 400, 800)]
    assert counts[0] <= 1.35 * 200  # blocks of 40, of which 10 images meet the block before
    assert counts[1] - counts[0] == pytest.approx(1.25 * 200, rel=0.1)
    assert counts[2] - counts[1] == pytest.approx(1.25 * 400, rel=0.1)


def test_a_shuffled_sequence_is_found_again() -> None:
    rng = np.random.default_rng(0)
    number = rng.permutation(400)
    pairs = [(int(number[a]), int(number[b])) for a, b in sequential(400)]
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    assert len(simulate(shuffled, [SIZE] * 400, 42 * SIZE)[0]) <= 1.6 * 400


def test_two_collections_are_read_by_the_block() -> None:
    """30 queries with 20 of 200 map images each, of which 40 + 2 fit."""
    rng = np.random.default_rng(1)
    pairs = [(q, 30 + (10 * (q // 2) + int(i)) % 200) for q in range(30) for i in rng.permutation(30)[:20]]
    reads, order, _ = simulate(pairs, [SIZE] * 230, 42 * SIZE)
    assert len(order) == 600
    assert len(reads) <= 2.2 * 230


def test_pinned_images_stay_and_the_least_recently_used_go() -> None:
    reads: list[str] = []

    def read(name: str) -> NDArray[np.float16]:
        reads.append(name)
        return np.zeros((50, 1), np.float16)

    cache = DescriptorCache(read, 400)
    cache.pinned = {"a", "b"}
    for name in "abcdecaeb":
        cache[name]
    assert reads == ["a", "b", "c", "d", "e", "c"]  # c went for e, d for c
    assert set(cache.arrays) == {"a", "b", "e", "c"}
    assert cache.size == 400
