"""Neighbours chosen by half-precision products against float64, where bf16 alone would err."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posfeat_hloc import matchers
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.matchers import match_batch, nearest, prefilter
from posfeat_hloc.matchers.nearest import Matcher, Options
from tests.matchers.test_nearest import descriptors, on_circle, unit

KINDS = ["views", "near ties", "duplicates", "opposite", "scaled", "half", "sparse", "zeros"]


def images(kind: str, n: int, m: int, seed: int, dimension: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of two images, each kind hard for a screen in its own way."""
    rng = np.random.default_rng(seed)
    first, second = descriptors(n, m, dimension, seed)
    if kind == "near ties":  # all cosines of a row agree to a few digits of bf16
        centre = rng.normal(size=dimension)
        first, second = (unit(centre + 0.02 * rng.normal(size=x.shape)) for x in (first, second))
    elif kind == "duplicates":
        first, second = first[rng.integers(0, max(1, n // 4), n)], second[rng.integers(0, max(1, m // 4), m)]
    elif kind == "opposite":  # no product is positive
        first, second = np.abs(first), -np.abs(second)
    elif kind == "scaled":
        first = first * rng.uniform(0.01, 100, (n, 1)).astype(np.float32)
        second = second * rng.uniform(0.01, 100, (m, 1)).astype(np.float32)
    elif kind == "half":
        first, second = (x.astype(np.float16).astype(np.float32) for x in (first, second))
    elif kind == "sparse":  # exact zeros and ties everywhere
        first, second = (np.eye(dimension, dtype=np.float32)[rng.integers(0, dimension, k)] for k in (n, m))
    elif kind == "zeros":
        first = first * (rng.random((n, 1)) < 0.5)
    return np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32)


def screened(
    first: np.ndarray, second: np.ndarray, seconds: bool = True
) -> tuple[prefilter.Nearest, prefilter.Nearest]:
    found = prefilter.nearest(torch.from_numpy(first), torch.from_numpy(second), seconds, seconds)
    assert found is not None
    return found


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 300),
    m=st.integers(1, 300),
    tile=st.sampled_from([(64, 64), (128, 64), (64, 192), (512, 1024)]),
    seed=st.integers(0, 2**31),
    seconds=st.booleans(),
)
@example(kind="near ties", n=300, m=300, tile=(64, 64), seed=0, seconds=True)
@example(kind="duplicates", n=200, m=130, tile=(64, 64), seed=1, seconds=True)
@example(kind="views", n=1, m=1, tile=(64, 64), seed=2, seconds=True)
@example(kind="views", n=64, m=65, tile=(64, 64), seed=3, seconds=True)
@example(kind="opposite", n=100, m=70, tile=(64, 64), seed=4, seconds=True)
def test_neighbours_are_those_of_float64(
    kind: str, n: int, m: int, tile: tuple[int, int], seed: int, seconds: bool
) -> None:
    first, second = images(kind, n, m, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "_TILE", {"cpu": tile})
        found = screened(first, second, seconds)
    cosines = first.astype(np.float64) @ second.T.astype(np.float64)
    scale = np.abs(cosines).max() + 1e-30
    for side, table in zip(found, (cosines, cosines.T), strict=True):
        ranked = np.sort(table, axis=1)
        chosen = table[np.arange(len(table)), side.index.numpy()]
        np.testing.assert_allclose(chosen, ranked[:, -1], rtol=0, atol=1e-12 * scale)  # float64's, but for its own ties
        apart = (ranked[:, -1] - ranked[:, -2] > 1e-12 * scale) if table.shape[1] > 1 else np.ones(len(table), bool)
        np.testing.assert_array_equal(side.index.numpy()[apart], table.argmax(axis=1)[apart])
        np.testing.assert_allclose(side.best, ranked[:, -1], rtol=0, atol=1e-6 * scale)
        if seconds:
            expected = ranked[:, -2] if table.shape[1] > 1 else np.full(len(table), -np.inf)
            np.testing.assert_allclose(side.second, expected, rtol=0, atol=1e-6 * scale)


def test_products_that_overflow_are_left_to_others() -> None:
    large = torch.from_numpy(descriptors(3, 1, 32, 11)[0]) * 1e25
    assert prefilter.nearest(large, large, False, False) is None


def test_the_bound_of_float32_sums_is_that_of_any_order() -> None:
    """|fl(a b) - a b| <= (D + 2) 2^-23 |a| |b|, for the longest b."""
    side, other = (
        prefilter._Side(3 * torch.eye(2, 64)),
        prefilter._Side(torch.tensor([1.0, 5.0])[:, None] * torch.eye(2, 64)),
    )
    assert prefilter._float32_error(side, other).tolist() == pytest.approx([3 * 5 * 66 * 2.0**-23] * 2)


def test_bf16_alone_would_err() -> None:
    """The examples are hard: the highest products in bf16 are other ones."""
    first, second = (torch.from_numpy(x) for x in images("near ties", 300, 300, 0))
    rounded = (first.bfloat16() @ second.bfloat16().T).float()
    index = screened(first.numpy(), second.numpy())[0].index
    assert (rounded.argmax(dim=1) != index).float().mean() > 0.5


def test_errors_that_all_add_up_are_bounded() -> None:
    """Each number is rounded by half a step, in the direction that makes the nearest neighbour look farther."""
    down, up = 1 + 2**-8 - 2**-12, 1 + 2**-8 + 2**-12  # to 1 and to 1 + 2^-7
    one = np.repeat([down, up], 64)[None]
    near = (1 + 2**-6) * np.concatenate([np.ones(64), -np.ones(54), np.zeros(10)])
    far = np.concatenate([np.zeros(118), np.ones(10)])
    others = np.concatenate([far[None], np.zeros((79, 128)), near[None]])  # in different groups
    one, others = one.astype(np.float32), others.astype(np.float32)
    rounded = torch.from_numpy(one).bfloat16().double() @ torch.from_numpy(others).double().T
    assert rounded[0, 80] < 0.97 * rounded[0, 0]
    assert (one @ others.T).argmax() == 80
    assert screened(one, others, False)[0].index.tolist() == [80]
    assert screened(others, one, False)[1].index.tolist() == [80]
    found = screened(one, np.concatenate([others, others]))[0]
    assert found.index.tolist() == [80]
    assert found.second.tolist() == pytest.approx(found.best.tolist())


@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from(["views", "half", "scaled"]),
    n=st.integers(1, 200),
    m=st.integers(1, 200),
    seed=st.integers(0, 2**31),
    options=st.fixed_dictionaries(
        {
            "mutual": st.booleans(),
            "ratio": st.sampled_from([None, 0.6, 0.8, 0.95]),
            "ratio_sides": st.sampled_from(["one", "both"]),
            "max_distance": st.sampled_from([None, 0.7]),
        }
    ),
)
def test_matches_are_those_of_float32(kind: str, n: int, m: int, seed: int, options: dict[str, object]) -> None:
    """Without ties, which random descriptors do not have; float32 is the path of before."""
    both = [torch.from_numpy(x)[None] for x in images(kind, n, m, seed)]
    expected, scores = Matcher(Options(**options, precision="fp32"))(*both)  # type: ignore[arg-type]
    found, found_scores = Matcher(Options(**options, precision="bf16"))(*both)  # type: ignore[arg-type]
    different = (expected != found).sum()
    cosines = (both[0][0].double() @ both[1][0].double().T).numpy()
    assert different == 0 or closest_call(cosines, options) < 1e-5 * np.abs(cosines).max()
    if different == 0:
        torch.testing.assert_close(found_scores, scores, atol=1e-5 * max(1, float(scores.abs().max())), rtol=0)


def closest_call(cosines: np.ndarray, options: dict[str, object]) -> float:
    """How near any decision is to the other one, in cosines."""
    gaps = [np.inf]
    for table in (cosines, cosines.T):
        ranked = np.sort(table, axis=1)
        if table.shape[1] > 1:
            gaps.append(float((ranked[:, -1] - ranked[:, -2]).min()))
            if options["ratio"] is not None:
                difference = (2 - 2 * ranked[:, -1]) - options["ratio"] ** 2 * (2 - 2 * ranked[:, -2])  # type: ignore[operator]
                gaps.append(float(np.abs(difference).min()))
        if options["max_distance"] is not None:
            gaps.append(float(np.abs(2 - 2 * ranked[:, -1] - options["max_distance"] ** 2).min()))  # type: ignore[operator]
    return min(gaps)


def test_ties_go_to_the_lower_index_from_both_sides() -> None:
    same = on_circle(0, 0, 0, 90, 90)
    matcher = Matcher(Options(precision="bf16"))
    assert matcher(*[torch.from_numpy(same)[None]] * 2)[0].tolist() == [[0, -1, -1, 3, -1]]
    once = unit(np.random.default_rng(0).normal(size=(300, 128)))
    order = np.random.default_rng(1).permutation(900)
    thrice = np.concatenate([once, once, once])[order]
    first = [int(np.flatnonzero(order % 300 == i)[0]) for i in range(300)]
    rows, columns = screened(once, thrice)
    assert rows.index.tolist() == first
    assert columns.index.tolist() == (order % 300).tolist()
    matched = matcher(torch.from_numpy(thrice)[None], torch.from_numpy(thrice)[None])[0][0]
    expected = np.full(900, -1)
    expected[first] = first
    assert matched.tolist() == expected.tolist()


@pytest.mark.parametrize("sides", ["one", "both"])
def test_duplicates_never_pass_the_ratio_test(sides: str) -> None:
    once = unit(np.random.default_rng(11).normal(size=(200, 128)))
    twice = torch.from_numpy(np.concatenate([once, once]))[None]
    matcher = Matcher(Options(mutual=False, ratio=0.8, ratio_sides=sides, precision="bf16"))
    assert (matcher(torch.from_numpy(once)[None], twice)[0] == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_cannot_be_screened_is_computed_in_float32(value: float) -> None:
    """Many equal descriptors, and numbers that are none, give what float32 gives."""
    rng = np.random.default_rng(2)
    broken = unit(rng.normal(size=(50, 16)))
    broken[7, 3] = value
    equal = np.repeat(unit(rng.normal(size=(1, 16))), 1200, axis=0)
    for first, second in ((broken, unit(rng.normal(size=(60, 16)))), (equal, equal)):
        tensors = torch.from_numpy(first), torch.from_numpy(second)
        assert prefilter.nearest(*tensors, False, False) is None
        pair = [tensor[None] for tensor in tensors]
        found, expected = (Matcher(Options(precision=p))(*pair)[0].tolist() for p in ("bf16", "fp32"))
        assert found == expected


def test_products_are_never_held_all_at_once() -> None:
    largest = 0

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    first, second = images("views", 3000, 3000, 5)
    with Sizes():
        screened(first, second, False)
    assert largest <= 3000 * 3000 / 12


def test_batches_of_pairs_are_screened_one_by_one() -> None:
    pairs = [images(kind, 150, 170, 3) for kind in ("views", "half", "near ties")]
    matcher = matchers.create({"name": "nearest", "precision": "bf16", "ratio": 0.9})
    for pair, together in zip(pairs, match_batch(matcher, pairs), strict=True):
        alone = match_batch(matcher, [pair])[0]
        np.testing.assert_array_equal(together.indices, alone.indices)
        np.testing.assert_array_equal(together.scores, alone.scores)


@pytest.mark.parametrize(
    ("precision", "fast", "size", "screens"),
    [
        ("auto", True, 1024, True),
        ("auto", True, 1000, False),
        ("auto", False, 1024, False),
        ("bf16", False, 10, True),
        ("fp32", True, 1024, False),
    ],
)
def test_precision(precision: str, fast: bool, size: int, screens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = prefilter.nearest
    monkeypatch.setattr(nearest, "has_fast_bf16", lambda device: fast)
    monkeypatch.setattr(prefilter, "nearest", lambda *args: (calls.append(args), real(*args))[1])
    one = torch.from_numpy(unit(np.random.default_rng(0).normal(size=(size, 8))))[None]
    assert Matcher(Options(precision=precision))(one, one)[0].tolist() == [list(range(size))]
    assert bool(calls) == screens


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="precision must be auto, bf16 or fp32, not 'fp8'"):
        Matcher(Options(precision="fp8"))
