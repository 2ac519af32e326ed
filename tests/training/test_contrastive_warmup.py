"""The contrastive loss against a loop and closed forms, and on synthetic views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from posfeat_hloc.training.contrastive_warmup import ContrastiveOptions, contrastive_loss, info_nce
from posfeat_hloc.training.synthetic_homographies import SyntheticOptions, SyntheticSource
from tests.training.two_views import place_maps, random_maps, read_by_hand, seeded, unit

SIZE = (80, 96)


def loss_by_hand(a, b, excluded, t):
    total = 0.0
    for i in range(len(a)):
        for x, y, mask in ((a, b, excluded), (b, a, excluded.T)):
            others = sum(np.exp(t * (x[i] @ y[j])) for j in range(len(a)) if j == i or not mask[i, j])
            total -= np.log(np.exp(t * (x[i] @ y[i])) / others) / (2 * len(a))
    return total


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), share=st.floats(0, 1), t=st.sampled_from([1.0, 20.0]))
def test_info_nce_is_the_loop(seed, n, share, t):
    a, b = (F.normalize(random_maps(seed + k, n, 5), dim=1) for k in range(2))
    excluded = torch.rand(n, n, generator=seeded(seed)) < share
    loss = info_nce(a, b, excluded, t)
    assert loss.item() == pytest.approx(loss_by_hand(a.numpy(), b.numpy(), excluded.numpy(), t), abs=1e-9)


def test_orthogonal_descriptors():
    unit_vectors = torch.eye(5, dtype=torch.float64)
    assert info_nce(unit_vectors, unit_vectors).item() == pytest.approx(np.log(1 + 4 * np.exp(-20)))
    collapsed = torch.ones(5, 1)
    assert info_nce(collapsed, collapsed).item() == pytest.approx(np.log(5))


@pytest.mark.parametrize("grid_alignment", ["published", "consistent"])
def test_points_are_read_in_their_own_maps_and_near_ones_do_not_compete(grid_alignment):
    maps = [random_maps(seed, 2, 4, 20, 24) for seed in (0, 1)]
    points0 = [torch.tensor([[10.0, 10], [18, 10], [60, 40]]), torch.tensor([[10.0, 10], [70, 70]])]
    points1 = [torch.tensor([[30.0, 40], [70, 10], [62, 18]]), torch.tensor([[30.0, 40], [20, 20]])]
    # in pair 0 the first two are 8 px apart in view 0, the last two 11.3 px in view 1
    options = ContrastiveOptions(inverse_temperature=3.0, grid_alignment=grid_alignment)
    loss = contrastive_loss(*maps, points0, points1, SIZE, options)
    read = [
        np.array(
            [unit(read_by_hand(m[b].numpy(), *p.tolist(), SIZE, grid_alignment)) for b in range(2) for p in points[b]]
        )
        for m, points in zip(maps, (points0, points1), strict=True)
    ]
    near = np.zeros((5, 5), bool)
    for i, j in ((0, 1), (1, 2)):
        near[i, j] = near[j, i] = True
    assert loss.item() == pytest.approx(loss_by_hand(*read, near, 3.0), rel=1e-5)


def test_maps_that_know_every_place_cost_nearly_nothing():
    points = [torch.tensor([[20.0, 20], [50, 20], [20, 60], [70, 70]])]
    perfect = place_maps(1, 20, 24)
    options = ContrastiveOptions()
    assert contrastive_loss(perfect, perfect, points, points, SIZE, options).item() < 1e-4
    wrong = [points[0].roll(1, dims=0)]
    assert contrastive_loss(perfect, perfect, points, wrong, SIZE, options).item() > 15


def test_no_points():
    maps = random_maps(0, 2, 4, 20, 24).requires_grad_()
    nothing = [torch.zeros(0, 2)] * 2
    loss = contrastive_loss(maps, maps, nothing, nothing, SIZE, ContrastiveOptions())
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_autocast_changes_nothing():
    a, b = (F.normalize(random_maps(k, 6, 16).float(), dim=1) for k in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = info_nce(a, b)
    assert torch.equal(half, info_nce(a, b))


def test_steps_on_synthetic_views_lower_the_loss(texture):
    options = SyntheticOptions(size=64, margin=4, max_points=40, min_points=8, min_contrast=1.0)
    source = SyntheticSource([texture()], options)
    rng = np.random.default_rng(0)
    pairs = [pair for pair in (source.sample(rng) for _ in range(8)) if pair is not None][:2]
    assert len(pairs) == 2
    views = torch.from_numpy(np.stack([pair.images[side] for side in (0, 1) for pair in pairs]))[:, None] / 255 - 0.5
    points = [
        [torch.from_numpy(p) for p in side] for side in zip(*((q.points0, q.points1) for q in pairs), strict=True)
    ]
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 7, 2, 3), torch.nn.ELU(), torch.nn.Conv2d(16, 16, 3, 2, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(10):
        maps = network(views)
        loss = contrastive_loss(maps[:2], maps[2:], points[0], points[1], (64, 64), ContrastiveOptions())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
