"""Expected positions against loops and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import GRID_ALIGNMENTS, sample_map
from posfeat_hloc.training.correspondence import (
    Correspondence,
    WindowOptions,
    cosine_volume,
    describe,
    description_loss,
    epipolar_loss,
    expectation,
    read_volume,
    search_window,
)
from posfeat_hloc.training.correspondence_search import LineToWindowOptions, line_to_window, query_points
from tests.training.two_views import distance_by_hand, fundamentals, place_maps, random_maps, read_by_hand, seeded, unit

SIZE = (80, 96)


def window_by_hand(query, dense, centre, window, temperature, grid_alignment):
    """Mean, variance along x and y (normalised) of one window, in Python numbers."""
    rows, columns = int(window * dense.shape[1]), int(window * dense.shape[2])
    half = [(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2]
    weights, places = [], []
    for i in range(rows):
        for j in range(columns):
            x = centre[0] + half[0] * (-window + 2 * window * j / (columns - 1))
            y = centre[1] + half[1] * (-window + 2 * window * i / (rows - 1))
            descriptor = read_by_hand(unit(dense), x, y, SIZE, grid_alignment)
            weights.append(np.exp(temperature * float(query @ descriptor)))
            places.append((x, y))
    p, xy = np.array(weights) / sum(weights), np.array(places)
    mean = p @ xy
    return mean, (p @ xy**2 - mean**2) / np.array(half) ** 2


@pytest.mark.parametrize("grid_alignment", GRID_ALIGNMENTS)
def test_window_search_is_the_loop(grid_alignment):
    dense = random_maps(0, 2, 6, 20, 24)
    queries = F.normalize(random_maps(1, 2, 3, 6), dim=-1)
    centres = torch.rand(2, 3, 2, generator=seeded(2), dtype=torch.float64) * torch.tensor([95, 79])
    volume = cosine_volume(queries, dense)
    options = WindowOptions(window=0.15, inverse_temperature=3.0, grid_alignment=grid_alignment)
    points, deviation = search_window(volume, centres, SIZE, replace(options, sigma="official-code"))
    _, variance = search_window(volume, centres, SIZE, options)
    for b, n in np.ndindex(2, 3):
        mean, expected = window_by_hand(
            queries[b, n].numpy(), dense[b].numpy(), centres[b, n].tolist(), 0.15, 3.0, grid_alignment
        )
        np.testing.assert_allclose(points[b, n], mean, atol=1e-9)
        assert deviation[b, n].item() == pytest.approx(np.sqrt(expected).sum(), abs=1e-9)
        assert variance[b, n].item() == pytest.approx(np.linalg.norm(expected), abs=1e-9)


def test_the_volume_holds_cosines_with_normalised_descriptors():
    dense, queries = random_maps(0, 2, 4, 3, 5), F.normalize(random_maps(1, 2, 7, 4), dim=-1)
    volume = cosine_volume(queries, dense)
    for b, n, r, c in np.ndindex(2, 7, 3, 5):
        expected = float(queries[b, n] @ dense[b, :, r, c] / dense[b, :, r, c].norm())
        assert volume[b, n, r, c].item() == pytest.approx(expected)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_reading_the_volume_is_multiplying_with_what_is_read(padding):
    dense, queries = random_maps(0, 2, 4, 20, 24), F.normalize(random_maps(1, 2, 3, 4), dim=-1)
    pixels = torch.rand(2, 3, 9, 2, generator=seeded(2), dtype=torch.float64) * 110 - 10
    read = read_volume(cosine_volume(queries, dense), pixels, SIZE, "published", padding)
    descriptors = sample_map(F.normalize(dense, dim=1), pixels.flatten(1, 2), SIZE, "published", padding)
    torch.testing.assert_close(read, (queries[:, :, None] * descriptors.unflatten(1, (3, 9))).sum(-1))


def test_descriptors_are_unit_vectors_also_at_the_border():
    described = describe(random_maps(0, 1, 4, 20, 24), torch.tensor([[[0.0, 0], [95, 79], [50, 3]]]), SIZE, "published")
    torch.testing.assert_close(described.norm(dim=-1), torch.ones(1, 3).double())


@given(seed=st.integers(0, 10**6), k=st.integers(1, 9), shift=st.floats(-1e3, 1e3))
def test_the_expectation_of_a_delta_is_the_delta(seed, k, shift):
    positions = torch.rand(k, 2, generator=seeded(seed), dtype=torch.float64) * 80
    peak = seed % k
    logits = torch.full((1, 1, k), shift, dtype=torch.float64)
    logits[..., peak] += 200
    mean, sigma = expectation(logits, positions, SIZE, "official-code")
    torch.testing.assert_close(mean[0, 0], positions[peak])
    assert sigma.item() == pytest.approx(2e-5)  # the floor of either deviation
    assert expectation(logits, positions, SIZE, "paper")[1].item() == pytest.approx(np.sqrt(2) * 1e-10)


def test_certainty_is_limited():
    positions, sure = torch.tensor([[3.0, 4], [50, 60]]), torch.tensor([[[90.0, 0]]])
    assert expectation(sure, positions, SIZE, "official-code", 1e-4)[1].item() == pytest.approx(0.02)
    assert expectation(sure, positions, SIZE, "paper", 1e-4)[1].item() == pytest.approx(2**0.5 * 1e-4)
    unsure = torch.zeros(1, 1, 2)
    for sigma in ("paper", "official-code"):
        limited = expectation(unsure, positions, SIZE, sigma, 1e-4)[1]
        assert limited.item() == expectation(unsure, positions, SIZE, sigma)[1].item()


def test_spread_of_two_equal_peaks():
    positions = torch.tensor([[10.0, 20], [14, 20]], dtype=torch.float64)
    mean, deviation = expectation(torch.zeros(1, 1, 2).double(), positions, (41, 81), "official-code")
    assert mean.tolist() == [[[12, 20]]]
    assert deviation.item() == pytest.approx(2 / 40 + 1e-5)
    assert expectation(torch.zeros(1, 1, 2).double(), positions, (41, 81))[1].item() == pytest.approx((2 / 40) ** 2)


def test_a_sharp_spread_has_digits_in_float32():
    positions = torch.tensor([[600.0, 400], [600.5, 400]])
    logits = torch.tensor([[[0.0, -8]]])
    p = float(torch.sigmoid(torch.tensor(-8.0)))
    expected = np.sqrt(p * (1 - p)) * 0.5 / 319.5 + 1e-5
    assert expectation(logits, positions, (480, 640), "official-code")[1].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("grid_alignment", GRID_ALIGNMENTS)
def test_one_bright_cell_at_the_centre_of_its_window(grid_alignment):
    volume = torch.zeros(1, 1, 30, 30, dtype=torch.float64)
    volume[0, 0, 11, 17] = 1
    cell = torch.tensor([17.0, 11]).double()
    pixel = cell * 4 if grid_alignment == "consistent" else (cell + 0.5) / 30 * 119
    points, _ = search_window(volume, pixel[None, None], (120, 120), WindowOptions(grid_alignment=grid_alignment))
    torch.testing.assert_close(points[0, 0], pixel)


def test_gradients_are_finite_differences_and_sigma_has_none():
    volume = random_maps(0, 1, 2, 20, 20).requires_grad_()
    centres = torch.tensor([[[30.0, 40], [77, 2]]]).double()
    assert torch.autograd.gradcheck(
        lambda v: search_window(v, centres, (80, 80), WindowOptions(inverse_temperature=2.0))[0], volume, fast_mode=True
    )
    points, sigma = search_window(volume, centres, (80, 80), WindowOptions())
    assert points.requires_grad
    assert not sigma.requires_grad


def test_autocast_changes_nothing():
    dense = random_maps(0, 1, 16, 20, 24).float()
    queries = describe(dense, torch.tensor([[[40.0, 40], [41, 40]]]), SIZE, "published")
    centres = torch.tensor([[[40.0, 40], [50, 30]]])
    expected = search_window(cosine_volume(queries, dense), centres, SIZE, WindowOptions())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(describe(dense, torch.tensor([[[40.0, 40], [41, 40]]]), SIZE, "published"), queries)
        found = search_window(cosine_volume(queries, dense), centres, SIZE, WindowOptions())
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_bad_arguments():
    with pytest.raises(ValueError, match="2 x 2"):
        search_window(torch.zeros(1, 1, 19, 30), torch.zeros(1, 1, 2), (76, 120), WindowOptions())
    with pytest.raises(ValueError, match="sigma"):
        expectation(torch.zeros(1, 1, 2), torch.zeros(2, 2), SIZE, "variance")


SIDEWAYS = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]], dtype=torch.float64)


def random_correspondence(seed: int, batch: int = 2, count: int = 12) -> tuple[torch.Tensor, Correspondence]:
    generator = seeded(seed)
    spread = torch.tensor([95.0, 79])
    points0, points1 = (torch.rand(batch, count, 2, generator=generator).double() * spread for _ in range(2))
    sigma = torch.rand(batch, count, generator=generator).double() + 0.01
    valid = torch.rand(batch, count, generator=generator) < 0.7
    return points0, Correspondence(points1, sigma, valid)


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.5]), scale=st.sampled_from([1.0, -3e-4, 1e5]))
def test_both_directions_are_the_loop(seed, share, scale):
    matrices = fundamentals(seed, 2, SIZE)
    points0, found0 = random_correspondence(seed)
    points1, found1 = random_correspondence(seed + 1, count=9)
    expected, used = 0.0, 0.0
    for points, found, all_matrices in ((points0, found0, matrices), (points1, found1, matrices.transpose(1, 2))):
        numerator = denominator = 0.0
        count = 0
        for b in range(2):
            for n in range(points.shape[1]):
                d = distance_by_hand(points[b, n].numpy(), found.points[b, n].numpy(), all_matrices[b].numpy())
                if found.valid[b, n] and d <= share * 80:
                    numerator += d / found.sigma[b, n].item()
                    denominator += 1 / found.sigma[b, n].item()
                    count += 1
        expected += numerator / denominator if denominator else 0
        used += count / points.shape[1] / 4
    loss = description_loss(points0, points1, found0, found1, matrices * scale, SIZE, share)
    assert loss.total.item() == pytest.approx(expected, rel=1e-9)
    assert loss.used.item() == pytest.approx(used, abs=1e-6)


def test_weighted_mean_of_three_points():
    points0 = torch.tensor([[[10.0, 20], [10, 30], [10, 40]]]).double()
    found = Correspondence(
        torch.tensor([[[5.0, 21], [90, 26], [50, 60]]]).double(),  # 1, 4 and 20 px off
        torch.tensor([[0.1, 0.3, 0.1]]).double(),
        torch.ones(1, 3, dtype=torch.bool),
    )
    loss = epipolar_loss(points0, found, SIDEWAYS, SIZE)  # 20 px are more than a tenth of 80
    assert loss.total.item() == pytest.approx((1 / 0.1 + 4 / 0.3) / (1 / 0.1 + 1 / 0.3))
    assert loss.used.item() == pytest.approx(2 / 3)


def test_weights_are_constants_and_masked_points_have_no_gradient():
    points0, found = random_correspondence(3)
    points, sigma = found.points.clone().requires_grad_(), found.sigma.clone().requires_grad_()
    loss = epipolar_loss(points0, Correspondence(points, sigma, found.valid), fundamentals(3, 2, SIZE), SIZE, 0.3)
    gradient, of_sigma = torch.autograd.grad(loss.total, (points, sigma), allow_unused=True)
    assert of_sigma is None
    weights = torch.where(gradient.abs().sum(-1) > 0, 1 / sigma.detach(), 0)
    # the gradient of a distance is the unit normal of its line, times w / sum(w)
    torch.testing.assert_close(gradient.norm(dim=-1), weights / weights.sum())
    assert (gradient[~found.valid] == 0).all()
    assert 0 < (weights > 0).sum() < found.valid.sum()


@pytest.mark.parametrize("why", ["invalid", "far", "no points"])
def test_nothing_to_learn_from(why):
    points0, found = random_correspondence(4, count=0 if why == "no points" else 12)
    points = found.points.clone().requires_grad_()
    valid = torch.full_like(found.valid, why == "far")
    share = -1.0 if why == "far" else 0.1
    loss = epipolar_loss(points0, Correspondence(points, found.sigma, valid), fundamentals(0, 2, SIZE), SIZE, share)
    loss.total.backward()
    assert loss.total.item() == 0
    assert torch.equal(points.grad, torch.zeros_like(points))


def search_and_loss(
    maps: torch.Tensor, matrices: torch.Tensor, options: LineToWindowOptions, margin: int = 0
) -> torch.Tensor:
    """The loss of the maps of one image pair at queries that keep a margin from the border."""
    generator = seeded(0)
    low, high = margin, torch.tensor([95, 79]) - margin
    points = []
    for _ in range(2):
        grid = query_points(1, SIZE, generator)[0].double()
        points.append(grid[((grid >= low) & (grid <= high)).all(dim=1)][None])
    found0 = line_to_window(points[0], maps[:1], maps[1:], matrices, SIZE, options, generator)
    found1 = line_to_window(points[1], maps[1:], maps[:1], matrices.transpose(1, 2), SIZE, options, generator)
    return description_loss(points[0], points[1], found0, found1, matrices, SIZE).total


@pytest.mark.parametrize("grid_alignment", GRID_ALIGNMENTS)
@pytest.mark.parametrize("sigma", ["paper", "official-code"])
def test_maps_that_know_every_place_cost_nearly_nothing(grid_alignment, sigma):
    options = LineToWindowOptions(window=0.3, sigma=sigma, grid_alignment=grid_alignment)
    # near the border a window reads zeros, which pushes the expectation inwards
    assert search_and_loss(place_maps(2, 20, 24), SIDEWAYS, options, margin=20).item() < 0.5
    # one-hot cells are 4 px apart and nothing lies between them: about 1 px in either direction
    assert search_and_loss(place_maps(2, 20, 24, width=0.05), SIDEWAYS, options, margin=20).item() < 2.5
    # a constant map finds the middle of its window, which the noise has moved off the line
    assert search_and_loss(torch.ones(2, 8, 20, 24).double(), SIDEWAYS, options, margin=20).item() > 3


def test_a_gradient_step_lowers_the_loss():
    maps = random_maps(0, 2, 8, 20, 24).requires_grad_()
    options = LineToWindowOptions(window=0.2, inverse_temperature=5.0)
    before = search_and_loss(maps, SIDEWAYS, options)
    (gradient,) = torch.autograd.grad(before, maps)
    after = search_and_loss(maps - 0.05 * gradient / gradient.norm(), SIDEWAYS, options)
    expected = -0.05 * gradient.norm()
    assert (after - before).item() == pytest.approx(expected.item(), rel=0.2)
