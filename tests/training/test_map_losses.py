import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from posfeat_hloc.training.map_losses import MapLossOptions, epipolar_contrast, map_losses, teacher_losses

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
    options = MapLossOptions(inverse_temperature=7.0, safe_radius=5.0, margin=0.8)
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
    options = MapLossOptions(inverse_temperature=30.0, safe_radius=3.0, margin=1.0)
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
