"""Peaks against loops over pixels and windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.detection.peaks import channel_maxima, find_peaks, greedy_peaks, refine, refine_quadratic

FEWEST = 128


def reflected(i: int, size: int) -> int:
    """Index of what lies at ``i`` of a line that is mirrored about its first and last element."""
    return -i if i < 0 else 2 * (size - 1) - i if i >= size else i


def survives(scores: np.ndarray, y: int, x: int, radius: int, reproduce_official: bool) -> bool:
    """Whether a pixel beats its window: earlier places must be lower, later ones not higher."""
    low = 1 if reproduce_official else 0  # with quirks the ring does not exist
    height, width = scores.shape[0] - 2 * low, scores.shape[1] - 2 * low
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            v, u = y - low + dy, x - low + dx
            if reproduce_official:
                v, u = reflected(v, height), reflected(u, width)
            elif not (0 <= v < height and 0 <= u < width):
                continue
            other, here = scores[v + low, u + low], scores[y, x]
            if other > here or (other == here and (dy, dx) < (0, 0)):
                return False
    return True


def peaks_by_hand(
    scores: np.ndarray,
    radius: int,
    threshold: float,
    k: int,
    reproduce_official: bool,
    allowed: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    height, width = scores.shape
    inner = [(y, x) for y in range(1, height - 1) for x in range(1, width - 1)]
    inner = [p for p in inner if allowed is None or allowed[p]]
    kept = [p for p in inner if scores[p] > threshold and survives(scores, *p, radius, reproduce_official)]
    best = sorted(kept, key=lambda p: -scores[p])  # stable: equal ones in reading order
    if reproduce_official:
        best = best[: max(k, FEWEST)]
        best += [p for p in inner if p not in set(kept)][: max(FEWEST - len(best), 0)]
    else:
        best = best[:k]
    return [(x, y) for y, x in best]


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    radius=st.integers(1, 4),
    levels=st.sampled_from([3, 10**6]),
    threshold=st.sampled_from([0.0, 0.5]),
    k=st.sampled_from([0, 3, 10**6]),
    reproduce_official=st.booleans(),
    share=st.sampled_from([None, 0.0, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_peaks_are_those_of_the_loop(
    height: int, width: int, radius: int, levels: int, threshold: float, k: int, reproduce_official: bool,
    share: float | None, seed: int,
) -> None:  # fmt: skip
    if reproduce_official and radius >= min(height, width) - 2:
        height, width = height + radius + 3, width + radius + 3
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (height, width)).astype(np.float32) / levels
    allowed = None if share is None else rng.random((height, width)) < share
    mask = None if allowed is None else torch.from_numpy(allowed)
    found = find_peaks(torch.from_numpy(scores), radius, threshold, k, reproduce_official, mask)
    assert [tuple(p) for p in found.tolist()] == peaks_by_hand(
        scores, radius, threshold, k, reproduce_official, allowed
    )


def test_many_peaks_are_not_filled_up() -> None:
    scores = torch.rand(60, 60)
    found = find_peaks(scores, 1, 0.5, 200, reproduce_official=True)
    assert len(found) == 200
    assert scores[found[:, 1], found[:, 0]].diff().max() <= 0


def test_a_tall_map_is_searched_in_strips_without_seams() -> None:
    scores = torch.rand(1100, 9)
    found = {tuple(p) for p in find_peaks(scores, 2, 0.0, 10**6).tolist()}
    assert found == set(peaks_by_hand(scores.numpy(), 2, 0.0, 10**6, False))


@pytest.mark.parametrize("reproduce_official", [True, False])
def test_all_borders_are_alike_only_without_quirks(reproduce_official: bool) -> None:
    """A single peak at each distance from each border: which ones are found?"""
    found = {}
    for side in ("top", "left", "bottom", "right"):
        found[side] = set()
        for distance in range(6):
            scores = torch.full((24, 24), 0.1)
            y, x = {
                "top": (distance, 12), "left": (12, distance),
                "bottom": (23 - distance, 12), "right": (12, 23 - distance),
            }[side]  # fmt: skip
            scores[y, x] = 1
            peaks = find_peaks(scores, 3, 0.5, 100, reproduce_official).tolist()
            if peaks and peaks[0] == [x, y]:  # what is added with quirks comes later
                found[side].add(distance)
    everywhere = {1, 2, 3, 4, 5}
    if reproduce_official:
        assert found["top"] == found["left"] == everywhere - {2}
        assert found["bottom"] == found["right"] == everywhere
    else:
        assert all(distances == everywhere for distances in found.values())


@settings(deadline=None, max_examples=40)
@given(height=st.integers(3, 9), width=st.integers(3, 9), seed=st.integers(0, 2**31))
def test_positions_are_weighted_means(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.gamma(1.0, size=(height, width)).astype(np.float32)
    pixels = np.array([(x, y) for y in range(1, height - 1) for x in range(1, width - 1)])
    keypoints, best = refine(torch.from_numpy(scores), torch.from_numpy(pixels))
    for (x, y), found, value in zip(pixels, keypoints.numpy(), best.numpy(), strict=True):
        total, centre = 0.0, np.zeros(2)
        for v in range(y - 1, y + 2):
            for u in range(x - 1, x + 2):
                total += float(scores[v, u])
                centre += float(scores[v, u]) * np.array([u, v])
        np.testing.assert_allclose(found, centre / total, rtol=1e-5, atol=1e-5)
        assert value == scores[y - 1 : y + 2, x - 1 : x + 2].max()


def test_the_summit_of_a_quadratic_is_found() -> None:
    rows, columns = np.mgrid[:9, :11]
    u, v = columns - 6.3, rows - 3.8
    scores = torch.tensor(9 - 0.3 * u * u - 0.1 * v * v - 0.2 * u * v, dtype=torch.float32)
    keypoints, best = refine(scores, torch.tensor([[6, 4]]), "quadratic")
    np.testing.assert_allclose(keypoints[0].numpy(), [6.3, 3.8], atol=1e-4)
    assert best[0] == scores.max()
    with pytest.raises(ValueError, match="mean or quadratic, not 'cubic'"):
        refine(scores, torch.tensor([[6, 4]]), "cubic")


@pytest.mark.parametrize(
    ("xx", "yy", "xy", "gx", "moved"),
    [
        (-0.5, -0.5, 0.0, 0.2, 0.4),
        (-0.5, -0.5, 0.0, 0.4, 0.5),  # 0.8, which is cut
        (-0.1, -0.5, 0.0, 0.15, 0.0),  # 1.5: the summit of another pixel
        (-0.5, -0.5, 1.0, 0.2, 0.0),  # a saddle has none
    ],
)
def test_only_a_summit_close_by_moves_a_pixel(xx: float, yy: float, xy: float, gx: float, moved: float) -> None:
    rows, columns = np.mgrid[:5, :5]
    u, v = columns - 2, rows - 2
    values = torch.tensor(9 + gx * u + xx * u * u / 2 + yy * v * v / 2 + xy * u * v)
    assert refine_quadratic(values, torch.tensor([[2, 2]]))[0].tolist() == pytest.approx([2 + moved, 2], abs=1e-6)


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    scores = torch.zeros(9, 9)
    scores[2, 2], scores[6, 6] = 0.5, 0.75
    assert find_peaks(scores, 1, 0.5, 10).tolist() == [[6, 6]]


def test_nine_zeros_leave_the_pixel_where_it_is() -> None:
    keypoints, best = refine(torch.zeros(5, 6), torch.tensor([[3, 2]]))
    assert keypoints.tolist() == [[3, 2]]
    assert best.tolist() == [0]


def test_positions_are_exact_far_from_the_origin() -> None:
    scores = torch.full((3, 6000), 0.5)
    scores[1, 5001] = 1.5
    keypoints, _ = refine(scores, torch.tensor([[5000, 1]]))
    assert keypoints[0, 0].item() == pytest.approx(5000 + 1 / 5.5, abs=5e-4)


def test_senseless_radii_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        find_peaks(torch.rand(9, 9), 0, 0.5, 10)
    with pytest.raises(ValueError, match="reflected over a radius of 7"):
        find_peaks(torch.rand(9, 9), 7, 0.5, 10, reproduce_official=True)


def greedy_by_hand(
    scores: np.ndarray, radius: int, threshold: float, border: int, k: int | None
) -> list[tuple[int, int]]:
    """Visit all pixels from the highest; keep those with no kept one nearby."""
    height, width = scores.shape
    order = sorted(np.ndindex(height, width), key=lambda p: (-scores[p], p))
    kept: list[tuple[int, int]] = []
    for y, x in order:
        if scores[y, x] > threshold and all(max(abs(y - v), abs(x - u)) > radius for u, v in kept):
            kept.append((x, y))
    return [(x, y) for x, y in kept if border <= x < width - border and border <= y < height - border][:k]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 3), st.sampled_from([None, 0, 5]), st.booleans())
def test_greedy_peaks_are_those_of_the_loop(seed: int, radius: int, border: int, k: int | None, ties: bool) -> None:
    scores = np.random.default_rng(seed).random((14, 17)).astype(np.float32)
    if ties:
        scores = np.round(scores * 8) / 8
    found = greedy_peaks(torch.from_numpy(scores), radius, 0.25, border, k)
    assert found.dtype == torch.int64
    assert [tuple(p) for p in found.tolist()] == greedy_by_hand(scores, radius, 0.25, border, k)


def test_greedy_suppression_frees_what_only_a_suppressed_pixel_outshines() -> None:
    scores = torch.zeros(1, 9)
    scores[0, [1, 3, 5]] = torch.tensor([3.0, 2.0, 1.0])
    assert greedy_peaks(scores, 2, 0.5).tolist() == [[1, 0], [5, 0]]  # 5 is no maximum of its window
    assert greedy_peaks(scores, 2, 0.5, border=1).tolist() == []
    assert greedy_peaks(scores, 2, 3.0).shape == (0, 2)


def by_hand(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detections and displacements (dx, dy) from every channel's padded map, one cell and channel at a time."""
    channels, height, width = dense.shape
    padded = np.pad(dense.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    detected, displacement = np.zeros((height, width), bool), np.zeros((height, width, 2))
    for d, y, x in np.ndindex(channels, height, width):
        patch = padded[d, y : y + 3, x : x + 3]
        if patch[1, 1] < dense[:, y, x].max() or patch[1, 1] < patch.max():
            continue
        gradient = np.array([patch[1, 2] - patch[1, 0], patch[2, 1] - patch[0, 1]]) / 2
        mixed = (patch[0, 0] + patch[2, 2] - patch[0, 2] - patch[2, 0]) / 4
        hessian = np.array([[patch[1, 0] + patch[1, 2], 0], [0, patch[0, 1] + patch[2, 1]]]) - 2 * patch[1, 1] * np.eye(
            2
        )
        hessian[0, 1] = hessian[1, 0] = mixed
        curvatures = np.linalg.eigvalsh(hessian)
        if curvatures[0] * curvatures[1] <= 0 or max(curvatures / curvatures[::-1]) > 5:
            continue
        detected[y, x] = True
        displacement[y, x] = -np.linalg.solve(hessian, gradient)
    return detected, displacement


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.maximum(rng.normal(size=(3, 7, 9)), 0).astype(np.float32)
    detected, displacement = by_hand(dense)
    found = channel_maxima(torch.from_numpy(dense))
    np.testing.assert_array_equal(found.detected, detected)
    np.testing.assert_allclose(found.displacement[found.detected], displacement[detected], atol=1e-3)
    np.testing.assert_array_equal(found.values, dense.max(axis=0))


def test_the_summit_of_a_parabola_is_found() -> None:
    y, x = np.mgrid[:7, :8]
    dense = np.zeros((4, 7, 8), np.float32)
    dense[2] = 20 - (x - 4.3) ** 2 - 2 * (y - 2.8) ** 2 - 0.4 * (x - 4.3) * (y - 2.8)
    found = channel_maxima(torch.from_numpy(np.maximum(dense, 0)))
    assert found.detected.nonzero().tolist() == [[3, 4]]
    np.testing.assert_allclose(found.displacement[3, 4], [0.3, -0.2], atol=1e-4)


def test_edges_flat_maps_and_weaker_channels_are_no_detections() -> None:
    y, x = np.mgrid[:5, :5]
    for ratio, expected in ((4.9, True), (5.1, False)):
        ridge = torch.from_numpy(100 - (x - 2.0) ** 2 - ratio * (y - 2.0) ** 2)[None]
        assert bool(channel_maxima(ridge).detected[2, 2]) == expected
    assert not channel_maxima(torch.zeros(3, 4, 4)).detected.any()
    peak = torch.from_numpy(np.maximum(9 - (x - 2.0) ** 2 - (y - 2.0) ** 2, 0))
    assert not channel_maxima(torch.stack([peak, torch.full((5, 5), 10.0)])).detected[1:4, 1:4].any()
