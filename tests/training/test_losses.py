"""The losses against loops, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.training.losses import (
    ContrastiveOptions,
    contrastive_loss,
    distance_matrix,
    epipolar_contrast,
    hardest_in_batch_loss,
    info_nce,
    map_losses,
    second_order_similarity,
    teacher_losses,
)
from posfeat_hloc.training.options import MapLossOptions
from posfeat_hloc.training.views import SyntheticOptions, SyntheticSource
from tests.training.two_views import place_maps, random_maps, read_by_hand, seeded, unit


def unit_vectors(n: int, seed: int, dimension: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dimension, generator=generator, dtype=torch.float64), dim=1)


def on_circle(*degrees: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def chord(degrees: float) -> float:
    """Distance of two points of the unit circle."""
    return float(2 * np.sin(np.deg2rad(degrees) / 2))


def random_mask(n: int, seed: int, share: float = 0.2) -> Tensor:
    mask = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < share
    return mask | mask.T


def hardest_by_hand(anchors: Tensor, positives: Tensor, mask: Tensor, margin: float) -> float:
    a, p = anchors.numpy(), positives.numpy()
    losses = []
    for i in range(len(a)):
        negatives = []
        for j in range(len(a)):
            if j != i and not mask[i, j]:
                negatives.append(np.linalg.norm(a[i] - p[j]))
            if j != i and not mask[j, i]:
                negatives.append(np.linalg.norm(a[j] - p[i]))
        if negatives:
            losses.append(max(0.0, margin + np.linalg.norm(a[i] - p[i]) - min(negatives)))
    return float(np.mean(losses))


def second_order_by_hand(anchors: Tensor, positives: Tensor, k: int, mask: Tensor) -> float:
    a, p = anchors.numpy(), positives.numpy()
    total = 0.0
    for i in range(len(a)):
        others = [j for j in range(len(a)) if j != i and not mask[i, j]]
        near: set[int] = set()
        for x in (a, p):
            near |= set(sorted(others, key=lambda j, x=x, i=i: np.linalg.norm(x[i] - x[j]))[:k])
        squares = [(np.linalg.norm(a[i] - a[j]) - np.linalg.norm(p[i] - p[j])) ** 2 for j in near]
        total += np.sqrt(sum(squares))
    return total / len(a)


def test_distances_are_euclidean() -> None:
    a, b = unit_vectors(7, 0), unit_vectors(9, 1)
    torch.testing.assert_close(distance_matrix(a, b), torch.cdist(a, b))


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 20), seed=st.integers(0, 2**31), margin=st.sampled_from([0.2, 1.0, 2.0]), share=st.floats(0, 0.4)
)
def test_hardest_in_batch_is_the_loop(n: int, seed: int, margin: float, share: float) -> None:
    anchors = unit_vectors(n, seed)
    positives = F.normalize(anchors + 0.3 * unit_vectors(n, seed + 1), dim=1)
    mask = random_mask(n, seed, share)
    if bool((mask | torch.eye(n, dtype=torch.bool)).all()):
        return  # no negative at all has a test of its own
    loss = hardest_in_batch_loss(anchors, positives, mask, margin)
    assert loss.item() == pytest.approx(hardest_by_hand(anchors, positives, mask, margin), abs=1e-9)


def test_hardest_in_batch_of_two_pairs() -> None:
    anchors, positives = on_circle(0, 40), on_circle(10, 65)
    # pair 0: positive at 10; negatives: its row |0 - 65|, its column |40 - 10| = 30
    # pair 1: positive at 25; negatives: its row |40 - 10| = 30, its column |0 - 65|
    expected = ((1 + chord(10) - chord(30)) + (1 + chord(25) - chord(30))) / 2
    assert hardest_in_batch_loss(anchors, positives).item() == pytest.approx(expected, abs=1e-12)


def test_rows_and_columns_both_give_negatives() -> None:
    # the hardest negative of pair 0 is anchor 1 (a column), of pair 2 positive 1 (a row)
    anchors, positives = on_circle(0, 30, 180), on_circle(5, 150, 185)
    expected = (
        (1 + chord(5) - chord(25)) + max(0, 1 + chord(120) - chord(25)) + (1 + chord(5) - chord(30))
    ) / 3  # pair 1: anchor 30 is nearest to positive 5
    assert hardest_in_batch_loss(anchors, positives).item() == pytest.approx(expected, abs=1e-12)


def test_pairs_beyond_the_margin_cost_nothing() -> None:
    anchors = torch.eye(4, dtype=torch.float64)
    assert hardest_in_batch_loss(anchors, anchors, margin=1.0).item() == 0  # sqrt(2) apart
    assert hardest_in_batch_loss(anchors, anchors, margin=1.5).item() == pytest.approx(1.5 - 2**0.5 + 1e-4)


def test_masked_entries_are_no_negatives() -> None:
    anchors = positives = on_circle(0, 5, 50)
    near = torch.zeros(3, 3, dtype=torch.bool)
    near[0, 1] = near[1, 0] = True
    expected = ((1 - chord(50)) + 2 * (1 - chord(45))) / 3
    assert hardest_in_batch_loss(anchors, positives, near).item() == pytest.approx(expected, abs=1.1e-4)
    unmasked = (2 * (1 - chord(5)) + (1 - chord(45))) / 3
    assert hardest_in_batch_loss(anchors, positives).item() == pytest.approx(unmasked, abs=1.1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_without_any_negative_there_is_nothing_to_learn(n: int) -> None:
    anchors = unit_vectors(n, 5).requires_grad_(True)
    loss = hardest_in_batch_loss(anchors, unit_vectors(n, 6), torch.ones(n, n, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(anchors.grad, torch.zeros_like(anchors))


def test_gradients_are_finite_differences() -> None:
    anchors, positives = (unit_vectors(6, seed).requires_grad_(True) for seed in (7, 8))
    mask = random_mask(6, 9)
    assert torch.autograd.gradcheck(lambda a, p: hardest_in_batch_loss(a, p, mask), (anchors, positives))
    assert torch.autograd.gradcheck(lambda a, p: second_order_similarity(a, p, 2, mask), (anchors, positives))


def test_gradients_of_identical_descriptors_are_finite() -> None:
    anchors = unit_vectors(4, 10)[[0, 0, 1, 2]].requires_grad_(True)
    (hardest_in_batch_loss(anchors, anchors) + second_order_similarity(anchors, anchors, 2)).backward()
    assert anchors.grad.isfinite().all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 20), k=st.integers(1, 10), seed=st.integers(0, 2**31), share=st.floats(0, 0.5))
def test_second_order_similarity_is_the_loop(n: int, k: int, seed: int, share: float) -> None:
    anchors, positives = unit_vectors(n, seed), unit_vectors(n, seed + 1)
    mask = random_mask(n, seed, share)
    loss = second_order_similarity(anchors, positives, k, mask)
    # a row without any neighbour costs the 1e-4 under its root
    assert loss.item() == pytest.approx(second_order_by_hand(anchors, positives, k, mask), abs=1.1e-4)


def test_second_order_similarity_of_three_pairs() -> None:
    anchors, positives = on_circle(0, 30, 100), on_circle(0, 50, 170)
    # the nearest of each (k = 1) is: 0 -> 1, 1 -> 0, 2 -> 1, in both sets
    expected = (2 * (chord(50) - chord(30)) + (chord(120) - chord(70))) / 3
    assert second_order_similarity(anchors, positives, k=1).item() == pytest.approx(expected, abs=1e-12)


def test_neighbours_in_either_set_count() -> None:
    anchors, positives = on_circle(0, 30, 100), on_circle(0, 110, 20)
    ab, ac, bc = chord(110) - chord(30), chord(20) - chord(100), chord(90) - chord(70)
    # 0: 1 among the anchors, 2 among the positives; 1: 0 and 2; 2: 1 and 0
    expected = (np.hypot(ab, ac) + np.hypot(ab, bc) + np.hypot(bc, ac)) / 3
    assert second_order_similarity(anchors, positives, k=1).item() == pytest.approx(expected, abs=1e-12)


def test_second_order_similarity_sees_only_shape() -> None:
    anchors = unit_vectors(30, 11)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(12))).Q
    for copy in (anchors, anchors @ rotation):
        assert second_order_similarity(anchors, copy).item() == pytest.approx(1e-4)  # the root's lower limit
    assert second_order_similarity(anchors, unit_vectors(30, 13)).item() > 0.1


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9])
def test_batches_smaller_than_the_neighbourhood(n: int) -> None:
    anchors, positives = unit_vectors(n, 14), unit_vectors(n, 15)
    nothing = torch.zeros(n, n, dtype=torch.bool)
    expected = second_order_by_hand(anchors, positives, 8, nothing)
    assert second_order_similarity(anchors, positives, k=8).item() == pytest.approx(expected, abs=1.1e-4)


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


CELLS = torch.stack(torch.meshgrid(torch.arange(5.0), torch.arange(4.0), indexing="xy"), dim=-1).reshape(-1, 2) * 4


def _problem(seed: int):
    generator = torch.Generator().manual_seed(seed)
    map1 = torch.randn((2, 6, 4, 5), generator=generator)
    points = torch.rand((2, 3, 2), generator=generator) * torch.tensor([16.0, 12.0])
    d0, d1 = (F.normalize(torch.randn((2, 3, 6), generator=generator), dim=2) for _ in range(2))
    valid = torch.rand((2, 3), generator=generator) < 0.7
    return d0, d1, map1, points, valid


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_losses_are_what_loops_give(seed):
    d0, d1, map1, points, valid = _problem(seed)
    options = MapLossOptions(inverse_temperature=7.0, safe_radius=5.0, triplet_margin=0.8)
    found = map_losses(d0, d1, map1, CELLS, points, valid, options)
    softmax, triplet, right = [], [], []
    for b in range(2):
        cells = F.normalize(map1[b].flatten(1), dim=0).T.numpy()
        for p in range(3):
            if not valid[b, p]:
                continue
            own, true = d0[b, p].numpy(), d1[b, p].numpy()
            far = np.linalg.norm(CELLS.numpy() - points[b, p].numpy(), axis=1) >= 5.0
            rivals = np.linalg.norm(points[b].numpy() - points[b, p].numpy(), axis=1) >= 5.0
            others = np.concatenate([cells[far], d1[b].numpy()[rivals & valid[b].numpy()]]) @ own
            positive = float(own @ true)
            softmax.append(-7 * positive + np.log(np.exp(7 * positive) + np.exp(7 * others).sum()))
            distances = [np.sqrt(2 - 2 * positive), np.sqrt(2 - 2 * others.max())]
            triplet.append(max(0.0, 0.8 + distances[0] - distances[1]))
            right.append(positive > others.max())
    if not softmax:
        assert float(found.softmax) == float(found.triplet) == float(found.right) == 0
        return
    np.testing.assert_allclose(float(found.softmax), np.mean(softmax), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(float(found.triplet), np.mean(triplet), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(float(found.right), np.mean(right), atol=1e-6)


def test_teacher_losses_by_hand():
    own = F.normalize(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), dim=2)
    taught = F.normalize(torch.tensor([[[1.0, 1.0], [0.0, 1.0], [5.0, 5.0]]]), dim=2)
    valid = torch.tensor([[True, True, False]])
    direct, entropy = teacher_losses(own, taught, valid, inverse_temperature=2.0)
    half = 2**-0.5
    np.testing.assert_allclose(float(direct), ((1 - half) + 0) / 2, rtol=1e-5)
    first = np.log(1 + np.exp(2 * (0 - half)))
    second = np.log(1 + np.exp(2 * (half - 1)))
    np.testing.assert_allclose(float(entropy), (first + second) / 2, rtol=1e-4)


def test_gradients_pull_the_true_place_and_push_the_others():
    d0, d1, map1, points, _ = _problem(1)
    map1.requires_grad_(True)
    d1.requires_grad_(True)
    losses = map_losses(d0, d1, map1, CELLS, points, torch.ones((2, 3), dtype=torch.bool), MapLossOptions())
    losses.softmax.backward()
    assert float((d1.grad * d0).sum()) < 0  # descent raises the similarity with the true place
    assert map1.grad.abs().sum() > 0


def test_what_all_points_have_in_common_does_not_win():
    """Points alike among themselves, and unlike every cell, are told from the cells but not from each other."""
    common = torch.tensor([1.0, 0.0, 0.0]).expand(1, 3, 3)
    map1 = torch.zeros((1, 3, 4, 5))
    map1[:, 1] = 1
    points = torch.tensor([[[0.0, 0.0], [8.0, 0.0], [16.0, 12.0]]])
    options = MapLossOptions(inverse_temperature=30.0, safe_radius=3.0, triplet_margin=1.0)
    found = map_losses(common, common, map1, CELLS, points, torch.ones((1, 3), dtype=torch.bool), options)
    np.testing.assert_allclose(float(found.softmax), np.log(3), rtol=1e-3)  # each point and two others alike
    np.testing.assert_allclose(float(found.triplet), 1.0, rtol=1e-3)
    assert float(found.right) == 0


SIDEWAYS = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]])
"""Cameras side by side: a point stays in its row."""


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_poses_contrast_a_line_with_what_is_off_it(seed):
    rng = np.random.default_rng(seed)
    rows0, rows1 = rng.permutation(12)[:9] * 3.0, rng.permutation(12)[:8] * 3.0
    xy0, xy1 = (np.c_[rng.uniform(0, 40, len(rows)), rows].astype(np.float32) for rows in (rows0, rows1))
    d0, d1 = (F.normalize(torch.from_numpy(rng.normal(size=(1, n, 5))).float(), dim=2) for n in (9, 8))
    exist0, exist1 = rng.random(9) < 0.8, rng.random(8) < 0.8
    options = MapLossOptions(inverse_temperature=6.0, safe_radius=4.0)
    found, share = epipolar_contrast(
        (d0, d1), (torch.from_numpy(xy0)[None], torch.from_numpy(xy1)[None]),
        (torch.from_numpy(exist0)[None], torch.from_numpy(exist1)[None]), SIDEWAYS, options,
    )  # fmt: skip
    cosines = (d0[0] @ d1[0].T).numpy()
    losses, pairs = [], 0
    for i in np.flatnonzero(exist0):  # a row holds one point of each image, so its pair is each the other's best
        for j in np.flatnonzero(exist1 & (rows1 == rows0[i])):
            pairs += 1
            for values in (
                cosines[i, exist1 & (abs(rows1 - rows0[i]) > 4)],
                cosines[exist0 & (abs(rows0 - rows1[j]) > 4), j],
            ):
                losses.append(np.log(1 + np.exp(6 * (values - cosines[i, j])).sum()))
    np.testing.assert_allclose(float(found), np.mean(losses) if losses else 0, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(float(share), pairs / max(1, exist0.sum()), rtol=1e-5)


def test_only_pairs_that_choose_each_other_count():
    d0 = F.normalize(torch.tensor([[[1.0, 0.0], [0.9, 0.3]]]), dim=2)  # both like the first point of image 1 best
    d1 = F.normalize(torch.tensor([[[1.0, 0.0], [-1.0, 0.2]]]), dim=2)
    points0, points1 = torch.tensor([[[1.0, 5.0], [9.0, 5.0]]]), torch.tensor([[[3.0, 5.0], [20.0, 30.0]]])
    every = torch.ones((1, 2), dtype=torch.bool)
    _, share = epipolar_contrast((d0, d1), (points0, points1), (every, every), SIDEWAYS, MapLossOptions())
    assert float(share) == 0.5
