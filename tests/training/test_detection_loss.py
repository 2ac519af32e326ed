"""The detection policy and its loss against loops, frequencies and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical
from torch.nn import functional as F

from posfeat_hloc.training.detection_loss import (
    DetectionOptions,
    Selection,
    detection_loss,
    epipolar_reward,
    matching_log_probability,
    select_keypoints,
)
from tests.training.two_views import distance_by_hand, fundamentals, random_maps, seeded

SIZE = (32, 40)


def random_heat(seed: int, batch: int = 2, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return F.softplus(2 * random_maps(seed, batch, 1, *size))


def draw(seed: int, share: float = 0.6) -> tuple[list[Selection], list[torch.Tensor], torch.Tensor]:
    """Two selections of a batch of two, unit descriptors at their points, fundamental matrices."""
    generator = seeded(seed)
    selections = []
    for side in range(2):
        drawn = select_keypoints(random_heat(seed + side), generator)
        accepted = torch.rand(drawn.accepted.shape, generator=generator) < share
        # in double precision: a sum of rewards near zero has no relative precision in single
        selections.append(replace(drawn, accepted=accepted, log_probability=drawn.log_probability.double()))
    descriptors = [F.normalize(random_maps(seed + 5 + side, 2, 20, 3), dim=-1) for side in range(2)]
    return selections, descriptors, fundamentals(seed, 2, SIZE)


def test_defaults_are_the_papers():
    options = DetectionOptions()
    assert (options.threshold, options.right, options.wrong, options.regularizer) == (2, 1, -0.25, -0.001)
    assert (options.inverse_temperature, options.form) == (60, "paper")


def test_log_probabilities_are_those_of_the_distributions():
    heat = random_heat(0)
    drawn = select_keypoints(heat, seeded(1))
    for b in range(2):
        for n, (x, y) in enumerate(drawn.points[b].long().tolist()):
            row, column = divmod(n, 5)
            cell = heat[b, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            index = torch.tensor(8 * (y - 8 * row) + x - 8 * column)
            assert 0 <= x - 8 * column < 8
            assert 0 <= y - 8 * row < 8
            expected = Categorical(logits=cell.flatten()).log_prob(index)
            expected += Bernoulli(logits=heat[b, 0, y, x]).log_prob(drawn.accepted[b, n].double())
            assert drawn.log_probability[b, n].item() == pytest.approx(expected.item())


def test_frequencies_are_the_probabilities():
    cell = random_maps(2, 2, 2)
    heat = cell.repeat(1, 1, 100, 100).reshape(1, 1, 200, 200)
    drawn = select_keypoints(heat, seeded(3), cell=2)
    index = (drawn.points[0] % 2) @ torch.tensor([1.0, 2])
    share = torch.bincount(index.long(), minlength=4) / 10_000
    np.testing.assert_allclose(share, cell.flatten().softmax(0), atol=0.02)
    for i in range(4):
        accepted = drawn.accepted[0][index == i].float()
        assert accepted.mean().item() == pytest.approx(
            cell.flatten()[i].sigmoid().item(), abs=2.5 / len(accepted) ** 0.5
        )


def test_draws_follow_the_generator_and_use_whole_cells():
    heat = random_heat(0, size=(37, 47))
    a, b = (select_keypoints(heat, seeded(4)) for _ in range(2))
    assert torch.equal(a.points, b.points)
    assert torch.equal(a.accepted, b.accepted)
    assert a.points.shape == (2, 20, 2)
    assert (a.points < torch.tensor([40, 32])).all()
    assert not torch.equal(a.points, select_keypoints(heat, seeded(5)).points)


def test_a_sure_pixel_is_always_proposed_and_accepted():
    heat = torch.full((1, 1, 8, 16), -1e4)
    heat[0, 0, 3, 6] = heat[0, 0, 7, 15] = 1e4
    drawn = select_keypoints(heat, seeded(0))
    assert drawn.points.tolist() == [[[6, 3], [15, 7]]]
    assert drawn.accepted.all()
    torch.testing.assert_close(drawn.log_probability, torch.zeros(1, 2))


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 7, 16), (1, 1, 16, 7)])
def test_heat_maps_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match="heat map"):
        select_keypoints(torch.zeros(shape), seeded(0))


def test_matching_probability_of_two_by_two():
    angle = 0.1
    descriptors0 = torch.eye(2, dtype=torch.float64)
    descriptors1 = torch.tensor([[1, 0], [np.cos(angle), np.sin(angle)]])
    p = matching_log_probability(descriptors0, descriptors1).exp()
    a, b, c, d = (np.exp(60 * (x - 1)) for x in (1, np.cos(angle), 0, np.sin(angle)))
    expected = [
        [a / (a + b) * a / (a + c), b / (a + b) * b / (b + d)],
        [c / (c + d) * c / (a + c), d / (c + d) * d / (b + d)],
    ]
    np.testing.assert_allclose(p, expected, rtol=1e-9)


def loss_by_hand(selections, descriptors, matrices, options) -> float:
    """Eqs. 9-11 pair by pair of keypoints, in Python numbers."""
    losses = []
    for b in range(2):
        a0, a1 = (s.accepted[b].tolist() for s in selections)
        e = np.exp(options.inverse_temperature * (descriptors[0][b].numpy() @ descriptors[1][b].numpy().T - 1))
        paper = options.form == "paper"
        total = 0.0
        for i, j in np.ndindex(20, 20):
            if not (a0[i] and a1[j]):
                continue
            row = sum(e[i, k] for k in range(20) if a1[k] or not paper)
            column = sum(e[k, j] for k in range(20) if a0[k] or not paper)
            p_match = e[i, j] / row * e[i, j] / column
            p0, p1 = (s.points[b, k].double().numpy() for s, k in zip(selections, (i, j), strict=True))
            matrix = matrices[b].numpy()
            right = distance_by_hand(p0, p1, matrix) < options.threshold
            right &= distance_by_hand(p1, p0, matrix.T) < options.threshold
            logs = sum(s.log_probability[b, k].item() for s, k in zip(selections, (i, j), strict=True))
            total += p_match * (options.right if right else options.wrong) * (logs + (0 if paper else np.log(p_match)))
        for s, accepted in zip(selections, (a0, a1), strict=True):
            total += options.regularizer * sum(s.log_probability[b, n].item() for n in range(20) if accepted[n])
        losses.append(-total / max(1, sum(a0) + sum(a1)) if paper else -total)
    return float(np.mean(losses) if options.form == "paper" else np.sum(losses))


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), form=st.sampled_from(["paper", "official-code"]), share=st.sampled_from([0.1, 0.6]))
def test_the_loss_is_the_loop(seed, form, share):
    selections, descriptors, matrices = draw(seed, share)
    options = DetectionOptions(form=form, inverse_temperature=4.0, threshold=6.0, regularizer=-0.03)
    loss = detection_loss(*selections, *descriptors, matrices, options)
    assert loss.total.item() == pytest.approx(loss_by_hand(selections, descriptors, matrices, options), abs=1e-9)
    accepted = sum(s.accepted.sum().item() for s in selections)
    assert loss.keypoints.item() == pytest.approx(accepted / 4)


def test_the_reward_counts_what_the_loss_is_made_of():
    # one certain right match: P_m is 1 and the only log-probabilities are known
    log_probability = torch.tensor([[-0.5, -9.0]], requires_grad=True)
    points, accepted = torch.tensor([[[4.0, 4], [20, 20]]]), torch.tensor([[True, False]])
    selection = Selection(points, log_probability, accepted)
    sideways = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]])
    unit = torch.eye(2)[None]
    for form, expected in (("paper", 0.5 - 0.0005), ("official-code", 1.0 - 0.001)):
        loss = detection_loss(selection, selection, unit, unit, sideways, DetectionOptions(form=form))
        assert loss.total.item() == pytest.approx(expected, abs=1e-6)
        assert loss.reward.item() == pytest.approx(1)
        (gradient,) = torch.autograd.grad(loss.total, log_probability)
        np.testing.assert_allclose(gradient, [[-2 * expected, 0]], atol=1e-6)


def test_rewards_need_both_distances():
    options = DetectionOptions()
    matrix = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 4, 0]]])  # y1 = 4 y0: image 1 is finer
    points0 = torch.tensor([[[0.0, 2], [0, 9]]])
    points1 = torch.tensor([[[5.0, 8], [5, 9.5], [5, 11], [5, 36]]])
    r = epipolar_reward(points0, points1, matrix, options)
    assert r.tolist() == [[[1, 1, -0.25, -0.25], [-0.25, -0.25, -0.25, 1]]]
    back = epipolar_reward(points1, points0, matrix.transpose(1, 2), options)
    assert torch.equal(back, r.transpose(1, 2))


def test_equation_9_as_printed_looks_at_one_image() -> None:
    matrix = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 4, 0]]])  # y1 = 4 y0: image 1 is finer
    points0, points1 = torch.tensor([[[0.0, 2]]]), torch.tensor([[[5.0, 10], [5, 10.01], [5, 9.99], [5, 2.5]]])
    one, both = (epipolar_reward(points0, points1, matrix, DetectionOptions(sides=s)) for s in ("one", "both"))
    assert one.tolist() == [[[1, -0.25, 1, -0.25]]]  # the threshold itself counts
    assert both.tolist() == [[[-0.25, -0.25, 1, -0.25]]]
    # half a pixel off in image 0 is two in image 1, and seen from the other side nothing is
    back = epipolar_reward(points1, points0, matrix.mT, DetectionOptions(sides="one"))
    assert back.flatten().tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="sides"):
        epipolar_reward(points0, points1, matrix, DetectionOptions(sides="none"))


@pytest.mark.parametrize("form", ["paper", "official-code"])
def test_the_gradient_reaches_the_heat_map_and_not_the_descriptors(form):
    heat = [random_heat(seed).requires_grad_() for seed in (0, 1)]
    _, descriptors, matrices = draw(0)
    descriptors = [d.requires_grad_() for d in descriptors]
    options = DetectionOptions(form=form, inverse_temperature=4.0, threshold=6.0)
    selections = [select_keypoints(h, seeded(7)) for h in heat]
    loss = detection_loss(*selections, *descriptors, matrices, options).total
    gradients = torch.autograd.grad(loss, [*heat, *descriptors], allow_unused=True)
    assert gradients[2] is gradients[3] is None
    for gradient, selection in zip(gradients[:2], selections, strict=True):
        assert gradient.isfinite().all()
        touched = F.max_pool2d(gradient.abs(), 8).flatten(1) > 0
        assert torch.equal(touched, selection.accepted)  # rejected proposals teach nothing
    step = 1e-3 / max(g.abs().max() for g in gradients[:2])
    with torch.no_grad():
        moved = [select_keypoints(h - step * g, seeded(7)) for h, g in zip(heat, gradients[:2], strict=True)]
        for a, b in zip(moved, selections, strict=True):
            assert torch.equal(a.points, b.points)
        after = detection_loss(*moved, *descriptors, matrices, options).total
    expected = -step * sum((g**2).sum() for g in gradients[:2])
    assert (after - loss).item() == pytest.approx(expected.item(), rel=0.05)


@pytest.mark.parametrize("form", ["paper", "official-code"])
def test_without_keypoints_there_is_nothing_to_learn(form):
    selections, descriptors, matrices = draw(1)
    selections = [
        replace(s, accepted=torch.zeros_like(s.accepted), log_probability=s.log_probability.requires_grad_())
        for s in selections
    ]
    loss = detection_loss(*selections, *descriptors, matrices, DetectionOptions(form=form))
    assert loss.total.item() == loss.reward.item() == loss.keypoints.item() == 0
    for gradient in torch.autograd.grad(loss.total, [s.log_probability for s in selections]):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_autocast_changes_nothing():
    selections, descriptors, matrices = draw(2)
    descriptors = [d.float() for d in descriptors]
    expected = detection_loss(*selections, *descriptors, matrices, DetectionOptions()).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(detection_loss(*selections, *descriptors, matrices, DetectionOptions()).total, expected)
        assert select_keypoints(random_heat(0).bfloat16(), seeded(0)).log_probability.dtype == torch.float32


def test_unknown_form():
    selections, descriptors, matrices = draw(3)
    with pytest.raises(ValueError, match="form"):
        detection_loss(*selections, *descriptors, matrices, DetectionOptions(form="disk"))
