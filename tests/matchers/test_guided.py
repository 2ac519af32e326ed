"""Matching in epipolar bands against the definition, over all pairs of keypoints."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.matchers.guided import Planes, match_in_bands, threshold


def planes(generator: torch.Generator, n: int, spread: float, near: float, lost: float) -> Planes:
    """Angles over ``spread`` radians around pi, where they go round; some keypoints near the epipole, some without."""
    angles = math.pi + spread * (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5)
    angles = torch.remainder(angles + math.pi, 2 * math.pi) - math.pi
    tolerances = 0.02 + 0.02 * torch.rand(n, generator=generator, dtype=torch.float64)
    tolerances[torch.rand(n, generator=generator) < near] = 1.5
    angles[torch.rand(n, generator=generator) < lost] = math.nan
    return Planes(angles, tolerances)


def by_hand(descriptors0: Tensor, descriptors1: Tensor, planes0: Planes, planes1: Planes) -> list[int]:
    cosines = descriptors0 @ descriptors1.T
    apart = (planes0.angles[:, None] - planes1.angles).abs()
    apart = torch.minimum(apart, 2 * math.pi - apart)
    cosines[~(apart <= planes0.tolerances[:, None] + planes1.tolerances)] = -torch.inf
    result = []
    for row in range(len(cosines)):
        best = int(cosines[row].argmax())
        mutual = cosines[row, best] > -torch.inf and int(cosines[:, best].argmax()) == row
        result.append(best if mutual else -1)
    return result


@given(
    n=st.integers(1, 700), m=st.integers(1, 400), spread=st.sampled_from([0.1, 1.0, 2 * math.pi]),
    near=st.sampled_from([0.0, 0.1]), lost=st.sampled_from([0.0, 0.2, 1.0]), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_neighbours_are_those_of_all_pairs(n: int, m: int, spread: float, near: float, lost: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    descriptors = [F.normalize(torch.randn(k, 8, generator=generator), dim=1) for k in (n, m)]
    pencils = [planes(generator, k, spread, near, lost) for k in (n, m)]
    found, cosines = match_in_bands(descriptors[0], descriptors[1], pencils[0], pencils[1], false_share=1)
    assert found.tolist() == by_hand(descriptors[0], descriptors[1], pencils[0], pencils[1])
    rows = found >= 0
    torch.testing.assert_close(cosines[rows], (descriptors[0][rows] * descriptors[1][found[rows]]).sum(dim=1))
    assert (cosines[~rows] == 0).all()


@pytest.fixture(scope="module")
def overlapping() -> tuple[Tensor, Tensor, Planes, Planes]:
    """600 points that both images see, in places of their own, with noisy descriptors, and 1400 strangers in each."""
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(600, 32, generator=generator)
    angles = torch.rand(600, generator=generator, dtype=torch.float64) - 0.5
    sides = []
    for _ in range(2):
        strangers = torch.randn(1400, 32, generator=generator)
        noisy = common + 0.5 * torch.randn(600, 32, generator=generator)
        where = torch.cat([angles, torch.rand(1400, generator=generator, dtype=torch.float64) - 0.5])
        sides.append((F.normalize(torch.cat([noisy, strangers]), dim=1), Planes(where, torch.full((2000,), 0.005))))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def test_right_matches_are_kept_and_chance_is_not(overlapping: tuple[Tensor, Tensor, Planes, Planes]) -> None:
    found, _ = match_in_bands(*overlapping)
    right = int((found[:600] == torch.arange(600)).sum())
    wrong = int((found >= 0).sum()) - right
    assert right > 560
    assert wrong < 0.1 * right
    everything, _ = match_in_bands(*overlapping, false_share=1)
    assert int((everything[600:] >= 0).sum()) > 300  # which is why decoys are needed


def test_unrelated_images_have_no_matches(overlapping: tuple[Tensor, Tensor, Planes, Planes]) -> None:
    first, second, planes0, planes1 = overlapping
    strangers = slice(600, None)
    parts = [Planes(p.angles[strangers], p.tolerances[strangers]) for p in (planes0, planes1)]
    found, _ = match_in_bands(first[strangers], second[strangers], *parts)
    assert int((found >= 0).sum()) < 20


def test_the_threshold_is_the_lowest_that_decoys_allow() -> None:
    targets = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    decoys = torch.tensor([0.65, 0.45, 0.3])
    assert threshold(targets, decoys, 0.18) == pytest.approx(0.7)  # none above, then 1 for 4, 1 for 5, 2 for 6
    assert threshold(targets, decoys, 0.2) == pytest.approx(0.5)
    assert threshold(targets, decoys, 0.34) == pytest.approx(0.4)
    assert threshold(targets, torch.tensor([]), 0.01) == pytest.approx(0.4)
    assert threshold(targets, torch.tensor([1.0] * 9), 0.5) == math.inf
    assert threshold(torch.tensor([]), targets, 0.5) == math.inf
