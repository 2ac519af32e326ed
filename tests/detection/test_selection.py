"""Adaptive suppression against the definition, computed for all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.detection.selection import (
    ABOVE_NOISE,
    AREA,
    POOL,
    VISIBLE,
    candidates,
    contrast,
    spread,
    strongest,
    suppression_radii,
    textured,
)


def radii_by_hand(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    difference = keypoints[:, None] - keypoints[None]
    distances = np.sqrt((difference * difference).sum(axis=2))
    return np.where(scores[None] > scores[:, None], distances, np.float32(np.inf)).min(axis=1)


def cloud(seed: int, n: int, levels: int, width: float = 160, height: float = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    keypoints = (rng.random((n, 2)) * [width, height]).astype(np.float32)
    return keypoints, (rng.integers(1, levels + 1, n) / levels).astype(np.float32)


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 150),
    levels=st.sampled_from([1, 3, 10**6]),
    count=st.integers(1, 60),
    shape=st.sampled_from([(160, 120), (1e-3, 1e-3), (5000, 1e-3), (3, 2000)]),
)
def test_the_largest_radii_are_kept(seed: int, n: int, levels: int, count: int, shape: tuple[float, float]) -> None:
    keypoints, scores = cloud(seed, n, levels, *shape)
    kept = spread(keypoints, scores, count)
    assert len(kept) == len(set(kept.tolist())) == min(n, count)
    assert (np.diff(scores[kept]) <= 0).all()
    pool = strongest(scores, POOL * count)
    radii = radii_by_hand(keypoints[pool], scores[pool])
    least = min(radii[pool == i][0] for i in kept)
    assert least >= np.sort(radii)[-min(n, count)] * (1 - 1e-5)


def test_radii_are_distances_to_the_nearest_stronger_one() -> None:
    keypoints, scores = cloud(0, 400, 10**6)
    np.testing.assert_allclose(suppression_radii(keypoints, scores, 1), radii_by_hand(keypoints, scores), rtol=1e-5)


def test_a_cluster_of_strong_keypoints_leaves_room_for_the_others() -> None:
    """On a grid of 10 x 10 places 20 px apart each has one keypoint; the first has 100 stronger ones within 3 px."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=2).reshape(-1, 2) * 20.0
    keypoints = np.concatenate([grid, rng.random((100, 2)) * 3]).astype(np.float32)
    scores = np.concatenate([rng.random(100) + 1, rng.random(100) + 2]).astype(np.float32)
    kept = spread(keypoints, scores, 100)
    assert set(range(1, 100)) <= set(kept.tolist())  # all but the first place's own, which the cluster covers
    assert keypoints[strongest(scores, 100)].max() <= 3


def test_the_very_weakest_do_not_take_part() -> None:
    keypoints, scores = cloud(1, 1000, 10**6)
    threshold = np.sort(scores)[-POOL * 50]
    assert scores[spread(keypoints, scores, 50)].min() >= threshold


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_the_choice_does_not_depend_on_the_unit(scale: float) -> None:
    keypoints, scores = cloud(2, 500, 10**6)
    assert (spread(keypoints, scores, 90) == spread(keypoints * np.float32(scale), scores, 90)).all()


@pytest.mark.parametrize(
    ("count", "pixels", "expected"),
    [(1024, 1024 * 683, POOL * 1024), (4096, 1600 * 1200, 1600 * 1200 // AREA), (8192, 1024 * 683, 8192), (9, 0, 9)],
)
def test_few_take_part_where_the_image_is_small(count: int, pixels: int, expected: int) -> None:
    assert candidates(count, pixels) == expected


def test_no_keypoints_and_equal_scores() -> None:
    assert spread(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), 5).tolist() == []
    assert spread(np.zeros((9, 2), np.float32), np.ones(9, np.float32), 2).tolist() == [0, 1]


@given(edge=st.integers(8, 24), across=st.booleans(), c=st.floats(0.01, 0.5), base=st.floats(0.0, 0.5))
def test_a_straight_step_measures_its_contrast(edge: int, across: bool, c: float, base: float) -> None:
    image = torch.full((1, 3, 32, 32), base)
    image[..., edge:] += c
    found = contrast(image.transpose(-1, -2) if across else image)
    assert found.max().item() == pytest.approx(c, rel=0.26)  # the least where a cell straddles the step
    if edge % 2 == 0:
        assert found.max().item() == pytest.approx(c, rel=1e-3)


@given(grey=st.integers(0, 255), slope=st.floats(-1.0, 1.0), height=st.integers(1, 40), width=st.integers(1, 40))
def test_flat_and_evenly_shaded_images_have_none(grey: int, slope: float, height: int, width: int) -> None:
    flat = torch.full((1, 1, height, width), grey / 255)
    assert not textured(flat, VISIBLE).any()
    shaded = 0.5 + slope / 255 * torch.arange(width).expand(1, 1, height, width)
    inside = textured(shaded, VISIBLE, reach=2)[..., 8:-8]  # borders are repeated: there the shading has a kink
    assert not inside.any()


def test_a_single_grey_level_is_seen_and_found_where_it_is() -> None:
    image = torch.full((1, 1, 60, 81), 0.5)
    image[..., 40:] += 1 / 255
    found = textured(image, VISIBLE)[0]
    columns = found.any(dim=0).nonzero()[:, 0]
    assert found.shape == (60, 81)
    assert found[:, 38:42].all()
    assert columns.min() >= 30
    assert columns.max() <= 49


@pytest.mark.parametrize(("channels", "deviation"), [(1, 1.0), (3, 1.5)])
def test_noise_is_none(channels: int, deviation: float) -> None:
    rng = np.random.default_rng(0)
    noise = np.round(rng.normal(128, deviation, (1, channels, 480, 640)))
    image = torch.from_numpy(noise / 255).float()
    assert textured(image, ABOVE_NOISE).float().mean() < 1e-3
    assert contrast(image).median().item() * 255 == pytest.approx(2.14 * deviation / channels**0.5, rel=0.05)
