"""The description loss against a loop, its masks and weights, and what a gradient step does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.detection.sampling import GRID_ALIGNMENTS
from posfeat_hloc.training.correspondence import Correspondence
from posfeat_hloc.training.description_loss import description_loss, epipolar_loss
from posfeat_hloc.training.line_to_window import LineToWindowOptions, line_to_window, query_points
from tests.training.two_views import distance_by_hand, fundamentals, place_maps, random_maps, seeded

SIZE = (80, 96)
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
