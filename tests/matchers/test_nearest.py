"""Nearest-neighbour matching against the full distance matrix in float64."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.matchers import nearest
from posfeat_hloc.matchers.nearest import Matcher, Options


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def descriptors(n: int, m: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images: about half of the second one's descriptors are noisy copies of the first one's.

    Some of the first one's are noisy copies of each other, so that several compete for one of the second.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, dimension))
    repeated = rng.permutation(n)[: n // 3]
    first[repeated] = first[rng.permutation(n)[: n // 3]] + rng.uniform(0, 0.8, (n // 3, 1)) * first[repeated]
    second = rng.normal(size=(m, dimension))
    copied = rng.permutation(min(n, m))[: (min(n, m) + 1) // 2]
    second[copied] = first[rng.permutation(n)[: len(copied)]] + rng.uniform(0, 0.8, (len(copied), 1)) * second[copied]
    return unit(first), unit(second)


def distances_in_float64(descriptors0: np.ndarray, descriptors1: np.ndarray) -> np.ndarray:
    difference = descriptors0[:, None].astype(np.float64) - descriptors1[None].astype(np.float64)
    return np.sqrt((difference**2).sum(axis=2))


def second_nearest(distances: np.ndarray) -> np.ndarray:
    """Of each row; infinite when there is only one."""
    return np.sort(distances, axis=1)[:, 1] if distances.shape[1] > 1 else np.full(len(distances), np.inf)


def match_by_hand(distances: np.ndarray, options: Options) -> np.ndarray:
    """One decision at a time, from the definitions in the options' docstrings."""
    result = np.full(len(distances), -1)
    second0, second1 = second_nearest(distances), second_nearest(distances.T)
    for i in range(len(distances)):
        j = int(np.argmin(distances[i]))
        distance = distances[i, j]
        if options.ratio is not None:
            if distance > options.ratio * second0[i]:
                continue
            if options.ratio_sides == "both" and distances[:, j].min() > options.ratio * second1[j]:
                continue
        if options.max_distance is not None and distance > options.max_distance:
            continue
        if options.mutual and int(np.argmin(distances[:, j])) != i:
            continue
        result[i] = j
    return result


def undecided(distances: np.ndarray, options: Options, tolerance: float = 1e-4) -> bool:
    """Whether some decision hangs on the rounding of float32."""
    close = False
    for side in (distances, distances.T):
        first, second = side.min(axis=1), second_nearest(side)
        close |= bool((second - first < tolerance).any())
        if options.ratio is not None:
            close |= bool((np.abs(first - options.ratio * second) < tolerance).any())
    if options.max_distance is not None:
        close |= bool((np.abs(distances.min(axis=1) - options.max_distance) < tolerance).any())
    return close


def match(options: Options, descriptors0: np.ndarray, descriptors1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        result = Matcher(options)(torch.from_numpy(descriptors0)[None], torch.from_numpy(descriptors1)[None])
    return result[0][0].numpy(), result[1][0].numpy()


@settings(deadline=None, max_examples=150)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    block=st.integers(1, 45),
    seed=st.integers(0, 2**31),
    options=st.builds(
        Options,
        mutual=st.booleans(),
        ratio=st.sampled_from([None, 0.6, 0.8, 0.95, 1.0]),
        ratio_sides=st.sampled_from(["one", "both"]),
        max_distance=st.sampled_from([None, 0.4, 0.7, 1.0]),
    ),
)
@example(n=1, m=1, block=1, seed=0, options=Options(ratio=0.6, ratio_sides="both"))
@example(n=1, m=30, block=8, seed=1, options=Options(ratio=0.8, ratio_sides="both"))
@example(n=30, m=1, block=8, seed=2, options=Options(ratio=0.8, ratio_sides="both"))
@example(n=33, m=40, block=16, seed=3, options=Options(ratio=0.8, ratio_sides="both"))
def test_every_option_is_what_its_docstring_says(n: int, m: int, block: int, seed: int, options: Options) -> None:
    descriptors0, descriptors1 = descriptors(n, m, 16, seed)
    distances = distances_in_float64(descriptors0, descriptors1)
    assume(not undecided(distances, options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK", block)
        indices, scores = match(options, descriptors0, descriptors1)
    expected = match_by_hand(distances, options)
    np.testing.assert_array_equal(indices, expected)
    cosine = 1 - distances.min(axis=1) ** 2 / 2
    np.testing.assert_allclose(scores, np.where(expected >= 0, (1 + cosine) / 2, 0), atol=1e-6)


@pytest.mark.parametrize("sides", ["one", "both"])
def test_ratio_on_many_descriptors(sides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK", 100)
    options = Options(ratio=0.8, ratio_sides=sides)
    descriptors0, descriptors1 = descriptors(350, 410, 128, 7)
    distances = distances_in_float64(descriptors0, descriptors1)
    indices, _ = match(options, descriptors0, descriptors1)
    np.testing.assert_array_equal(indices, match_by_hand(distances, options))
    assert 100 < (indices >= 0).sum() < 200


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_sides_of_the_ratio_test_differ() -> None:
    first, second = on_circle(0, 12), on_circle(5, 180)  # two of image 0 compete for one of image 1
    assert match(Options(ratio=0.8), first, second)[0].tolist() == [0, -1]
    assert match(Options(ratio=0.75), first, second)[0].tolist() == [0, -1]
    assert match(Options(ratio=0.8, ratio_sides="both"), first, second)[0].tolist() == [0, -1]
    assert match(Options(ratio=0.7, ratio_sides="both"), first, second)[0].tolist() == [-1, -1]  # 5 / 7 > 0.7
    assert match(Options(mutual=False, ratio=0.7), first, second)[0].tolist() == [0, 0]


@pytest.mark.parametrize("sides", ["one", "both"])
def test_a_single_candidate_passes_the_ratio_test(sides: str) -> None:
    options = Options(ratio=0.6, ratio_sides=sides)
    assert match(options, on_circle(0), on_circle(170))[0].tolist() == [0]


def test_the_distance_limit_on_a_circle() -> None:
    first, second = on_circle(0, 90), on_circle(20, 140)  # distances 2 sin(10) = 0.347 and 2 sin(25) = 0.845
    assert match(Options(max_distance=0.35), first, second)[0].tolist() == [0, -1]
    assert match(Options(max_distance=0.34), first, second)[0].tolist() == [-1, -1]
    assert match(Options(max_distance=0.85), first, second)[0].tolist() == [0, 1]


def test_scores_are_half_one_plus_cosine() -> None:
    first, second = on_circle(0, 110), on_circle(60, 110)  # the second of image 0 is the nearest of both
    np.testing.assert_allclose(match(Options(), first, second)[1], [0, 1], atol=1e-6)
    np.testing.assert_allclose(match(Options(mutual=False), first, second)[1], [0.75, 1], atol=1e-6)


def test_ties_go_to_the_lower_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK", 2)
    same = on_circle(0, 0, 0, 90, 90)
    assert match(Options(), same, same)[0].tolist() == [0, -1, -1, 3, -1]


@pytest.mark.parametrize("sides", ["one", "both"])
def test_duplicates_never_pass_the_ratio_test(sides: str) -> None:
    """Two equally near neighbours at distance 0 are ambiguous, however float32 rounds their cosines."""
    once = unit(np.random.default_rng(11).normal(size=(200, 128)))
    twice = np.concatenate([once, once])
    assert (match(Options(mutual=False, ratio=0.8, ratio_sides=sides), once, twice)[0] == -1).all()
    assert (match(Options(mutual=True, ratio=0.8, ratio_sides="both"), twice, once)[0] == -1).all()


def test_identical_images_match_themselves() -> None:
    same = unit(np.random.default_rng(12).normal(size=(300, 128)))
    for options in (Options(), Options(ratio=0.8, ratio_sides="both"), Options(max_distance=0.01)):
        indices, scores = match(options, same, same)
        np.testing.assert_array_equal(indices, np.arange(300))
        np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_blocks_cover_the_similarity_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (torch.from_numpy(x) for x in descriptors(11, 5, 8, 13))
    for block in (1, 4, 11, 50):
        monkeypatch.setattr(nearest, "BLOCK", block)
        both = torch.stack([first, first.flip(0)]), torch.stack([second, second])
        rows = [(start, part.clone()) for start, part in nearest.similarity_blocks(*both)]
        assert [start for start, _ in rows] == list(range(0, 11, block))
        expected = torch.stack([first @ second.T, first.flip(0) @ second.T])
        torch.testing.assert_close(torch.cat([part for _, part in rows], dim=1), expected)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.2])
def test_senseless_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ConfigurationError, match="ratio must be in"):
        Matcher(Options(ratio=ratio))


def test_unknown_sides_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'one' or 'both', not 'left'"):
        Matcher(Options(ratio=0.8, ratio_sides="left"))
