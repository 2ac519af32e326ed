"""Color changes against closed forms and a slow loop in the standard library's color system."""

import colorsys

import numpy as np
import pytest

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training import color_jitter as jitter_module
from posfeat_hloc.training.color_jitter import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
GREY = np.array([0.299, 0.587, 0.114])


def close(result: np.ndarray, expected: np.ndarray, atol: float = 0.51) -> None:
    assert result.dtype == np.uint8
    np.testing.assert_allclose(result, np.clip(expected, 0, 255), atol=atol)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.9])
def test_closed_forms(factor: float) -> None:
    x = PICTURE.astype(np.float64)
    grey = x @ GREY
    close(adjust_brightness(PICTURE, factor), factor * x)
    mean = np.round(grey.mean())
    close(adjust_contrast(PICTURE, factor), mean + factor * (x - mean))
    close(adjust_saturation(PICTURE, factor), grey[..., None] + factor * (x - grey[..., None]), atol=0.75)


@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.0, 0.25, 0.5])
def test_hue_turns_the_color_circle(shift: float) -> None:
    expected = np.zeros(PICTURE.shape)
    for place in np.ndindex(PICTURE.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(PICTURE[place] / 255))
        expected[place] = np.array(colorsys.hsv_to_rgb((h + shift) % 1, s, v)) * 255
    difference = np.abs(adjust_hue(PICTURE, shift) - expected)
    assert difference.max() <= 11  # 256 steps of hue, six ramps of 255 values
    assert difference.mean() < 1.5


def test_the_strengths_bound_the_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {}
    order = set()
    current: list[str] = []
    for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"):

        def change(image: np.ndarray, amount: float, name: str = name) -> np.ndarray:
            drawn.setdefault(name, []).append(amount)
            current.append(name)
            return image

        monkeypatch.setattr(jitter_module, name, change)
    rng = np.random.default_rng(0)
    for _ in range(400):
        current.clear()
        color_jitter(PICTURE, rng, brightness=1, contrast=0.2, saturation=1.5, hue=0.4)
        order.add(tuple(current))
    assert len(order) == 24
    limits = {"brightness": (0, 2), "contrast": (0.8, 1.2), "saturation": (0, 2.5), "hue": (-0.4, 0.4)}
    for name, (low, high) in limits.items():
        amounts = np.array(drawn[f"adjust_{name}"])
        assert low <= amounts.min() < low + 0.05 * (high - low)
        assert high >= amounts.max() > high - 0.05 * (high - low)


def test_the_generator_decides_and_the_picture_is_kept() -> None:
    before = PICTURE.copy()
    a, b = (color_jitter(PICTURE, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(PICTURE, before)
    assert (color_jitter(PICTURE, np.random.default_rng(4)) != a).any()
    np.testing.assert_array_equal(color_jitter(PICTURE, np.random.default_rng(3), 0, 0, 0, 0), PICTURE)


def test_as_many_numbers_are_drawn_whatever_the_strengths() -> None:
    rngs = [np.random.default_rng(1) for _ in range(2)]
    color_jitter(PICTURE, rngs[0])
    color_jitter(PICTURE, rngs[1], 0, 0, 0, 0)
    assert rngs[0].random() == rngs[1].random()


@pytest.mark.parametrize("strengths", [(-0.1, 0, 0, 0), (0, 0, 0, 0.6), (0, 0, 0, -0.1)])
def test_impossible_strengths(strengths: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigurationError, match="must not be negative"):
        color_jitter(PICTURE, np.random.default_rng(0), *strengths)
