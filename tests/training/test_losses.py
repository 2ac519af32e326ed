"""The losses against loops, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.training.losses import distance_matrix, hardest_in_batch_loss, second_order_similarity


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
