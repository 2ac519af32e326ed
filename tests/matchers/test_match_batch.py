"""Matching many pairs at once gives what matching each alone gives, in the right direction."""

import numpy as np
import pytest
import torch

from posfeat_hloc import matchers
from posfeat_hloc.features import Features, Matches
from posfeat_hloc.matchers import match, match_batch
from tests.matchers.test_nearest import descriptors, unit

MODELS = [
    {"name": "nearest"},
    {"name": "nearest", "ratio": 0.8, "ratio_sides": "both"},
    {"name": "nearest", "mutual": False, "ratio": 0.9, "max_distance": 0.9},
    {"name": "dual_softmax", "inverse_temperature": 20.0},
]
models = pytest.mark.parametrize("model", MODELS, ids=["mutual", "ratio", "one-way", "dual-softmax"])


def features(array: np.ndarray) -> Features:
    rng = np.random.default_rng(0)
    return Features(rng.random((len(array), 2), np.float32), rng.random(len(array), np.float32), array)


@models
def test_a_batch_equals_its_pairs(model: dict[str, object]) -> None:
    matcher = matchers.create(model)
    shapes = [(30, 40), (1, 1), (30, 40), (0, 5), (40, 30), (30, 40), (5, 0), (1, 7), (0, 0), (40, 30)]
    pairs = [descriptors(max(n, 1), max(m, 1), 32, seed) for seed, (n, m) in enumerate(shapes)]
    pairs = [(a[:n], b[:m]) for (a, b), (n, m) in zip(pairs, shapes, strict=True)]
    together = match_batch(matcher, pairs)
    assert len(together) == len(pairs)
    for (n, m), (a, b), result in zip(shapes, pairs, together, strict=True):
        alone = match(matcher, features(a), features(b))
        assert len(result.indices) == n
        np.testing.assert_array_equal(result.indices, alone.indices)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-6)
        if n == 0 or m == 0:
            assert (result.indices == -1).all()
    assert sum(int((result.indices >= 0).sum()) for result in together) > 20


@models
def test_matches_lead_from_the_first_image_to_the_second(model: dict[str, object]) -> None:
    rng = np.random.default_rng(5)
    first = unit(rng.normal(size=(20, 64)))
    order = rng.permutation(20)[:12]  # keypoint j of image 1 shows keypoint order[j] of image 0
    second = unit(np.concatenate([first[order], rng.normal(size=(5, 64))]))
    result = match(matchers.create(model), features(first), features(second))
    assert isinstance(result, Matches)
    assert result.indices.shape == (20,)
    np.testing.assert_array_equal(result.indices[order], np.arange(12))
    pairs = result.pairs()
    right = {(int(i), j) for j, i in enumerate(order)}
    assert right <= {(i, j) for i, j in pairs.tolist()}


@pytest.mark.parametrize("model", [MODELS[0], MODELS[1], MODELS[3]], ids=["mutual", "ratio", "dual-softmax"])
def test_exchanged_images_give_exchanged_matches(model: dict[str, object]) -> None:
    first, second = descriptors(50, 60, 32, 6)
    matcher = matchers.create(model)
    forward = match(matcher, features(first), features(second))
    backward = match(matcher, features(second), features(first))
    np.testing.assert_array_equal(forward.reversed(60).indices, backward.indices)
    assert len(forward.pairs()) > 10


def test_half_precision_descriptors_match_too() -> None:
    first, second = descriptors(50, 60, 64, 7)
    matcher = matchers.create({"name": "nearest"})
    full = match_batch(matcher, [(first, second)])[0]
    half = match_batch(matcher, [(first.astype(np.float16), second.astype(np.float16))])[0]
    np.testing.assert_array_equal(full.indices, half.indices)
    assert half.scores.dtype == np.float32


def test_scores_of_a_matcher_in_half_precision_become_float32() -> None:
    def matcher(one: torch.Tensor, two: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(one.shape[:2], dtype=torch.int64), torch.full(one.shape[:2], 0.5, dtype=torch.bfloat16)

    (found,) = match_batch(matcher, [descriptors(4, 5, 32, 10)])
    assert found.scores.dtype == np.float32
    assert found.scores.tolist() == [0.5] * 4


def test_nothing_to_match() -> None:
    assert match_batch(matchers.create({"name": "nearest"}), []) == []
    empty = Features.empty(32)
    result = match(matchers.create({"name": "nearest"}), features(descriptors(4, 1, 32, 8)[0]), empty)
    assert result.indices.tolist() == [-1] * 4
    assert result.scores.tolist() == [0.0] * 4


def test_matching_keeps_no_gradients() -> None:
    first, second = descriptors(5, 6, 32, 9)
    result = match_batch(matchers.create({"name": "nearest"}), [(first, second)])[0]
    assert isinstance(result.indices, np.ndarray)
    assert not torch.is_inference_mode_enabled()
