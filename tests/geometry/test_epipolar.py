"""Epipolar geometry against projected points, scalar formulas and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posfeat_hloc.geometry.epipolar import (
    clip_lines,
    epipolar_lines,
    line_distances,
    points_between,
    symmetric_distances,
)
from tests.training.two_views import distance_by_hand, fundamentals, seeded, two_cameras

SIZE = (60, 80)


def random_pixels(seed: int, batch: int, count: int) -> torch.Tensor:
    return torch.rand(batch, count, 2, generator=seeded(seed), dtype=torch.float64) * torch.tensor([79, 59])


@given(seed=st.integers(0, 10**6))
def test_projections_of_one_point_lie_on_each_others_lines(seed):
    camera0, camera1, matrix = two_cameras(seed, SIZE)
    points = np.c_[np.random.default_rng(seed).uniform([-1, -1, 2], [1, 1, 4], (6, 3)), np.ones(6)]
    pixels = []
    for camera in (camera0, camera1):
        projected = points @ camera.T
        pixels.append(torch.from_numpy(projected[:, :2] / projected[:, 2:])[None])
    distances0, distances1 = symmetric_distances(*pixels, torch.from_numpy(matrix)[None])
    assert distances0[0].diagonal().max() < 1e-8
    assert distances1[0].diagonal().max() < 1e-8
    assert (distances0 > 1e-3).any()


@given(seed=st.integers(0, 10**6))
def test_distances_are_those_of_the_loop(seed):
    matrices = fundamentals(seed, 2, SIZE)
    points0, points1 = random_pixels(seed, 2, 4), random_pixels(seed + 1, 2, 5)
    distances0, distances1 = symmetric_distances(points0, points1, matrices)
    assert distances0.shape == distances1.shape == (2, 4, 5)
    for b, i, j in np.ndindex(2, 4, 5):
        matrix, p0, p1 = matrices[b].numpy(), points0[b, i].numpy(), points1[b, j].numpy()
        assert distances1[b, i, j].item() == pytest.approx(distance_by_hand(p0, p1, matrix), abs=1e-9)
        assert distances0[b, i, j].item() == pytest.approx(distance_by_hand(p1, p0, matrix.T), abs=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-25, 12), sign=st.sampled_from([-1, 1]))
def test_the_scale_of_the_fundamental_matrix_does_not_matter(seed, exponent, sign):
    matrices = fundamentals(seed, 1, SIZE)
    points0, points1 = random_pixels(seed, 1, 4), random_pixels(seed + 1, 1, 4)
    scaled = symmetric_distances(points0, points1, matrices * sign * 10**exponent)
    for a, b in zip(symmetric_distances(points0, points1, matrices), scaled, strict=True):
        torch.testing.assert_close(a, b)


def test_lines_are_normalised_and_the_epipole_has_none():
    matrix = torch.tensor([[[0.0, -1, 20], [1, 0, -30], [-20, 30, 0]]])  # epipole (30, 20) in both images
    lines = epipolar_lines(torch.tensor([[[30.0, 20], [30, 25]]]), matrix)
    torch.testing.assert_close(lines[0, 0], torch.zeros(3))
    torch.testing.assert_close(lines[0, 1].abs(), torch.tensor([1.0, 0, 30]))  # x = 30
    assert line_distances(torch.tensor([[5.0, 5.0]]), lines[:, 0]).item() == 0
    assert clip_lines(lines, SIZE)[1].tolist() == [[False, True]]


def test_distances_under_autocast_keep_their_digits():
    points0, points1 = (random_pixels(seed, 2, 6).float() for seed in (0, 1))
    matrices = fundamentals(0, 2, SIZE).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = symmetric_distances(points0, points1, matrices)
    exact = symmetric_distances(points0.double(), points1.double(), matrices.double())
    for a, b in zip(half, exact, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-3, rtol=1e-4)


def clip_by_hand(a: float, b: float, c: float, width: int, height: int) -> list[tuple[float, float]]:
    """All crossings of the line with the four border segments, without repetitions."""
    crossings = []
    for x in (0.0, width - 1.0):
        if abs(b) > 1e-12 and 0 <= -(a * x + c) / b <= height - 1:
            crossings.append((x, -(a * x + c) / b))
    for y in (0.0, height - 1.0):
        if abs(a) > 1e-12 and 0 <= -(b * y + c) / a <= width - 1:
            crossings.append((-(b * y + c) / a, y))
    distinct: list[tuple[float, float]] = []
    for p in crossings:
        if all(np.hypot(p[0] - q[0], p[1] - q[1]) > 1e-6 for q in distinct):
            distinct.append(p)
    return sorted(distinct)


@given(
    angle=st.one_of(st.floats(0, 2 * np.pi), st.sampled_from([0, np.pi / 2, np.pi, 3 * np.pi / 2])),
    through=st.tuples(st.floats(-40, 120), st.floats(-40, 100)),
)
def test_clipping_is_brute_force(angle, through):
    a, b = np.cos(angle), np.sin(angle)
    c = -(a * through[0] + b * through[1])
    nearest_corner = min(abs(a * x + b * y + c) for x in (0, 79) for y in (0, 59))
    assume(nearest_corner > 1e-3)  # corners have a test of their own
    expected = clip_by_hand(a, b, c, 80, 60)
    ends, valid = clip_lines(torch.tensor([[[a, b, c]]], dtype=torch.float64), SIZE)
    assert valid.item() == (len(expected) == 2)
    if valid:
        np.testing.assert_allclose(sorted(map(tuple, ends[0, 0].tolist())), expected, atol=1e-6)
    else:
        assert ends[0, 0].tolist() == [[39.5, 29.5]] * 2


@pytest.mark.parametrize(
    ("through", "expected"),
    [
        (((0, 0), (79, 59)), [[0, 0], [79, 59]]),  # the diagonal crosses at two corners
        (((0, 0), (40, 59)), [[0, 0], [40, 59]]),
        (((10, 0), (20, 0)), [[0, 0], [79, 0]]),  # along the border
        (((79, 5), (79, 6)), [[79, 0], [79, 59]]),
        (((-1, 1), (1, -1)), None),  # touches a corner
        (((-5, 0), (-5, 1)), None),
        (((0, 59.5), (1, 59.5)), None),
    ],
)
def test_lines_at_borders_and_corners(through, expected):
    (x0, y0), (x1, y1) = through
    line = torch.tensor([y0 - y1, x1 - x0, x0 * y1 - x1 * y0], dtype=torch.float64)
    ends, valid = clip_lines((line / line[:2].norm())[None, None], SIZE)
    assert valid.item() == (expected is not None)
    if expected is not None:
        np.testing.assert_allclose(sorted(ends[0, 0].tolist()), expected, atol=1e-9)


def test_points_between_are_equally_far_apart():
    ends = torch.tensor([[[[0.0, 10], [9, 4]], [[5, 5], [5, 5]]]])
    points = points_between(ends, 4)
    torch.testing.assert_close(points[0, 0], torch.tensor([[0.0, 10], [3, 8], [6, 6], [9, 4]]))
    torch.testing.assert_close(points[0, 1], torch.full((4, 2), 5.0))
