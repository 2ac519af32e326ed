"""Dual softmax against two softmaxes of the full matrix in float64."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from posfeat_hloc.matchers import nearest
from posfeat_hloc.matchers.dual_softmax import Matcher, Options
from tests.matchers.test_nearest import descriptors, on_circle


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    weights = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(weights / weights.sum(axis=axis, keepdims=True))


def probabilities(descriptors0: np.ndarray, descriptors1: np.ndarray, t: float) -> np.ndarray:
    logits = t * (descriptors0.astype(np.float64) @ descriptors1.astype(np.float64).T)
    return softmax(logits, 0) * softmax(logits, 1)


def match_by_hand(p: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    indices, scores = np.full(len(p), -1), np.zeros(len(p))
    for i, j in enumerate(p.argmax(axis=1)):
        if p[i, j] >= threshold and p[:, j].argmax() == i:
            indices[i], scores[i] = j, p[i, j]
    return indices, scores


def match(options: Options, descriptors0: np.ndarray, descriptors1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        result = Matcher(options)(torch.from_numpy(descriptors0)[None], torch.from_numpy(descriptors1)[None])
    return result[0][0].numpy(), result[1][0].numpy()


@settings(deadline=None, max_examples=100)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    dimension=st.sampled_from([4, 16, 128]),
    block=st.integers(1, 35),
    seed=st.integers(0, 2**31),
    t=st.sampled_from([1.0, 10.0, 60.0, 300.0]),
    threshold=st.sampled_from([0.01, 0.1, 0.5]),
)
@example(n=1, m=1, dimension=4, block=1, seed=1, t=60.0, threshold=0.5)
@example(n=1, m=25, dimension=16, block=4, seed=2, t=10.0, threshold=0.1)
@example(n=25, m=1, dimension=16, block=4, seed=2, t=10.0, threshold=0.1)
def test_mutual_maxima_of_the_product(
    n: int, m: int, dimension: int, block: int, seed: int, t: float, threshold: float
) -> None:
    descriptors0, descriptors1 = descriptors(n, m, dimension, seed)
    p = probabilities(descriptors0, descriptors1, t)
    best = np.concatenate(
        [np.sort(side, axis=1)[:, ::-1][:, :2] for side in (p, p.T) if side.shape[1] > 1] or [[[1, 0]]]
    )
    relevant = best[best[:, 0] > 0.5 * threshold]
    assume((relevant[:, 0] - relevant[:, 1] > 1e-3 * relevant[:, 0]).all())  # nothing hangs on rounding
    assume((np.abs(p.max(axis=1) - threshold) > 1e-3 * threshold).all())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK", block)
        indices, scores = match(Options(t, threshold), descriptors0, descriptors1)
    expected, expected_scores = match_by_hand(p, threshold)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=2e-3, atol=1e-6)


def test_two_by_two_in_closed_form() -> None:
    first, second = on_circle(0, 90), on_circle(0, 60)
    a, b, c = np.exp(10 * 1.0), np.exp(10 * 0.5), np.exp(0.0)
    d = np.exp(10 * np.sqrt(0.75))
    indices, scores = match(Options(10, 0.1), first, second)
    assert indices.tolist() == [0, 1]
    np.testing.assert_allclose(scores, [a / (a + b) * a / (a + c), d / (c + d) * d / (b + d)], rtol=1e-5)


@pytest.mark.parametrize("cosine", [0.9, 0.3, 0.0, -0.9])
@pytest.mark.parametrize("t", [60.0, 300.0])
def test_only_differences_of_cosines_matter(cosine: float, t: float) -> None:
    """A single candidate has probability 1 however unlike it is: float32 must not underflow."""
    first, second = on_circle(0), on_circle(np.rad2deg(np.arccos(cosine)))
    indices, scores = match(Options(t), first, second)
    assert indices.tolist() == [0]
    np.testing.assert_allclose(scores, 1, atol=1e-4)


def test_the_threshold_counts_equal_as_enough() -> None:
    first = on_circle(0)
    second = on_circle(45, -45)  # two equal candidates: 1/2 by row, 1 by column
    assert match(Options(60, 0.4999), first, second)[0].tolist() == [0]
    assert match(Options(60, 0.5001), first, second)[0].tolist() == [-1]


def test_scores_are_zero_without_a_match() -> None:
    descriptors0, descriptors1 = descriptors(60, 50, 16, 3)
    indices, scores = match(Options(20, 0.3), descriptors0, descriptors1)
    assert 0 < (indices < 0).sum() < 60
    assert (scores[indices < 0] == 0).all()
    assert (scores[indices >= 0] >= 0.3).all()
