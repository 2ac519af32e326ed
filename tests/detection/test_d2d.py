"""The saliency of D2D against loops over cells and neighbours, and top-K against sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.detection.d2d import (
    absolute_saliency,
    adapted_threshold,
    relative_saliency,
    score_map,
    top_k,
)


def neighbours(radius: int, step: int) -> set[tuple[int, int]]:
    """Offsets -r, -r + step, ... along both axes without (0, 0), and their mirror images."""
    line = range(-radius, radius + 1, step)
    window = {(dy, dx) for dy in line for dx in line}
    return (window | {(-dy, -dx) for dy, dx in window}) - {(0, 0)}


def relative_by_hand(descriptors: np.ndarray, radius: int, step: int) -> np.ndarray:
    """Mean distance to the neighbours inside the map, cell by cell, in float64."""
    _, height, width = descriptors.shape
    x = descriptors.astype(np.float64)
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            distances = [
                np.sqrt(((x[:, row, column] - x[:, row + dy, column + dx]) ** 2).sum())
                for dy, dx in neighbours(radius, step)
                if 0 <= row + dy < height and 0 <= column + dx < width
            ]
            result[row, column] = np.mean(distances) if distances else 0
    return result


def random_map(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_papers_window_has_36_neighbours() -> None:
    line = [-5, -3, -1, 1, 3, 5]
    assert neighbours(5, 2) == {(dy, dx) for dy in line for dx in line}
    # seen from outside: exactly these 36 cells notice one odd descriptor in a constant map
    descriptors = np.zeros((3, 15, 16), np.float32)
    descriptors[:, 7, 8] = 1
    noticed = relative_saliency(torch.from_numpy(descriptors)[None])[0].numpy() > 0
    expected = np.zeros((15, 16), bool)
    expected[7, 8] = True
    for dy, dx in neighbours(5, 2):
        expected[7 + dy, 8 + dx] = True
    np.testing.assert_array_equal(noticed, expected)


def test_absolute_saliency_is_the_deviation() -> None:
    raw = random_map((2, 128, 5, 7)) * 3 + 1
    expected = raw.astype(np.float64).std(axis=1)
    np.testing.assert_allclose(absolute_saliency(torch.from_numpy(raw)).numpy(), expected, rtol=1e-5)


def test_absolute_saliency_of_two_values() -> None:
    raw = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, 2.0, 2.0, 2.0]).reshape(2, 4, 1, 1)
    assert absolute_saliency(raw).flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "radius", "step"),
    [
        ((8, 13, 16), 5, 2),
        ((8, 13, 16), 5, 1),
        ((4, 9, 8), 1, 2),
        ((4, 9, 8), 1, 1),
        ((4, 12, 10), 4, 2),  # (0, 0) is on this grid and is left out
        ((4, 12, 10), 5, 3),  # 3 does not divide 10: the grid and its mirror image
        ((4, 12, 10), 4, 3),
        ((4, 4, 5), 5, 2),  # smaller than the window
        ((4, 3, 14), 5, 2),
        ((4, 1, 9), 5, 2),  # every other row lies outside, and the row itself is not on the grid
        ((4, 1, 9), 4, 2),
    ],
)
def test_relative_saliency_is_the_loop_over_neighbours(shape: tuple[int, int, int], radius: int, step: int) -> None:
    maps = np.stack([random_map(shape, 1), random_map(shape, 2)])
    expected = np.stack([relative_by_hand(one, radius, step) for one in maps])
    result = relative_saliency(torch.from_numpy(maps), radius, step).numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    radius=st.integers(1, 6),
    step=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_relative_saliency_on_any_map(height: int, width: int, radius: int, step: int, seed: int) -> None:
    descriptors = random_map((3, height, width), seed)
    result = relative_saliency(torch.from_numpy(descriptors)[None], radius, step)[0].numpy()
    np.testing.assert_allclose(result, relative_by_hand(descriptors, radius, step), rtol=1e-5, atol=1e-6)


def test_a_cell_without_neighbours_scores_zero() -> None:
    assert relative_saliency(torch.rand(1, 8, 1, 1)).item() == 0


def test_a_constant_map_has_no_salient_cell() -> None:
    constant = torch.randn(1, 128, 1, 1).expand(1, 128, 14, 15)
    assert torch.equal(relative_saliency(constant), torch.zeros(1, 14, 15))
    assert torch.equal(score_map(constant), torch.zeros(1, 14, 15))


@pytest.mark.parametrize("place", [(0, 0), (7, 8), (13, 3), (6, 15)])
def test_the_one_odd_cell_is_the_best(place: tuple[int, int]) -> None:
    row, column = place
    raw = torch.randn(1, 16, 1, 1).repeat(1, 1, 14, 16)
    raw[0, :, row, column] += torch.randn(16)
    scores = relative_saliency(raw)[0]
    cells, values = top_k(scores, 2)
    assert cells[0].tolist() == [column, row]
    distance = (raw[0, :, row, column] - raw[0, :, 7, 7]).norm()
    torch.testing.assert_close(values[0], distance)  # all its neighbours are equally far
    assert values[1] < values[0] / 4


@pytest.mark.parametrize("relative_on", ["raw", "normalized"])
def test_the_score_is_the_product(relative_on: str) -> None:
    raw = random_map((1, 32, 10, 11), 5) * np.linspace(0.1, 4, 11, dtype=np.float32)
    compared = raw[0] if relative_on == "raw" else raw[0] / np.linalg.norm(raw[0], axis=0)
    expected = raw[0].std(axis=0) * relative_by_hand(compared, 3, 2)
    result = score_map(torch.from_numpy(raw), 3, 2, relative_on)[0].numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-4)


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 12), width=st.integers(1, 12), k=st.integers(0, 200), seed=st.integers(0, 2**31))
def test_top_k_is_sorting(height: int, width: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(height * width).astype(np.float32).reshape(height, width)
    cells, values = top_k(torch.from_numpy(scores), k)
    order = np.argsort(-scores, axis=None)[:k]
    rows, columns = np.unravel_index(order, scores.shape)
    np.testing.assert_array_equal(cells.numpy(), np.stack([columns, rows], axis=1))
    np.testing.assert_array_equal(values.numpy(), scores[rows, columns])


@pytest.mark.parametrize(("radius", "step"), [(0, 1), (5, 0), (-2, 1)])
def test_senseless_windows_are_refused(radius: int, step: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        relative_saliency(torch.rand(1, 4, 6, 6), radius, step)


def test_unknown_relative_on_is_refused() -> None:
    with pytest.raises(ValueError, match="'raw' or 'normalized'"):
        score_map(torch.rand(1, 4, 6, 6), relative_on="both")


def test_the_terms_multiply_to_the_score() -> None:
    raw = torch.from_numpy(random_map((2, 16, 9, 8), 5))
    absolute, relative = (score_map(raw, 3, 1, "normalized", terms) for terms in ("absolute", "relative"))
    assert torch.equal(absolute * relative, score_map(raw, 3, 1, "normalized"))
    assert torch.equal(absolute, absolute_saliency(raw))
    with pytest.raises(ValueError, match="both, absolute, relative, not 'neither'"):
        score_map(raw, terms="neither")


def test_the_adapted_threshold_is_equation_5() -> None:
    scores, saliency = np.abs(random_map((2, 6, 7), 1))
    expected = (saliency * scores).mean() / scores.mean() * 0.2
    found = adapted_threshold(torch.from_numpy(scores), torch.from_numpy(saliency), 0.2)
    assert found == pytest.approx(expected, rel=1e-5)
    # saliency where the scores are not counts little: a detector that fires on one pixel asks for that pixel's
    scores[:] = 0
    scores[2, 3] = 0.7
    found = adapted_threshold(torch.from_numpy(scores), torch.from_numpy(saliency), 0.2)
    assert found == pytest.approx(0.2 * saliency[2, 3], rel=1e-5)
    assert adapted_threshold(torch.zeros(2, 2), torch.ones(2, 2), 0.2) == 0


def test_saliency_of_half_precision_maps_is_computed_in_single() -> None:
    raw = torch.from_numpy(random_map((1, 32, 9, 10), 6)).bfloat16()
    for compute in (absolute_saliency, relative_saliency, lambda x: score_map(x, relative_on="normalized")):
        found = compute(raw)
        assert found.dtype == torch.float32
        assert torch.equal(found, compute(raw.float()))


def test_the_adapted_threshold_of_half_precision_maps_neither_overflows_nor_rounds() -> None:
    scores, saliency = (torch.full((300, 300), value, dtype=torch.float16) for value in (1.0, 3.0))
    assert adapted_threshold(scores, saliency, 0.2) == pytest.approx(0.6, rel=1e-9)


def test_the_sum_of_equation_3_as_printed() -> None:
    """Without the division, cells of the border have fewer terms."""
    raw = random_map((4, 12, 13), 7)
    mean, total = (
        relative_saliency(torch.from_numpy(raw)[None], 3, 2, average)[0].numpy() for average in (True, False)
    )
    np.testing.assert_allclose(mean, relative_by_hand(raw, 3, 2), rtol=1e-5)
    np.testing.assert_allclose(total[3:-3, 3:-3], mean[3:-3, 3:-3] * 16, rtol=1e-5)
    assert total[0, 0] == pytest.approx(mean[0, 0] * 4, rel=1e-5)  # the neighbours below and to the right
    score = score_map(torch.from_numpy(raw)[None], 3, 2, average=False)[0].numpy()
    np.testing.assert_allclose(score, raw.std(axis=0) * total, rtol=1e-5)
