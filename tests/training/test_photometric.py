"""Color changes against closed forms and a slow loop in the standard library's color system."""

import colorsys

import numpy as np
import pytest
import torch

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.training import photometric
from posfeat_hloc.training.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    change_light,
    color_jitter,
    relight,
)
from tests.training.test_views import photograph

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

        monkeypatch.setattr(photometric, name, change)
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


def _images(count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((count, 3, 12, 12), generator=generator)
    return torch.nn.functional.interpolate(small, size=(48, 48), mode="bicubic").clamp(0, 1)


def test_no_strength_changes_nothing():
    images = _images()
    assert relight(images, torch.Generator(), 0.0) is images


def test_changed_images_stay_in_range_differ_and_repeat():
    images = _images()
    changed = relight(images, torch.Generator().manual_seed(1), 1.0)
    again = relight(images, torch.Generator().manual_seed(1), 1.0)
    assert torch.equal(changed, again)
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    distance = (changed - images).abs().mean(dim=(1, 2, 3))
    assert (distance > 0.02).sum() >= 6
    equal_pairs = (changed[:, None] - changed[None]).abs().amax(dim=(2, 3, 4)) < 1e-6
    assert equal_pairs.sum() == len(images)  # each image gets changes of its own


def test_strength_is_how_far_images_change():
    images = _images(32)
    weak, strong = ((relight(images, torch.Generator().manual_seed(2), s) - images).abs().mean() for s in (0.2, 1.0))
    assert weak < strong / 1.5


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_kept(seed):
    """A dark spot stays the darkest or the brightest place of the blurred image around it."""
    images = torch.full((16, 3, 48, 48), 0.7)
    images[..., 20:28, 30:38] = 0.1
    changed = relight(images, torch.Generator().manual_seed(seed), 0.6).mean(dim=1, keepdim=True)
    smooth = torch.nn.functional.avg_pool2d(changed, 8, stride=2)
    window = smooth[:, 0, 6:15, 11:20]  # around (24, 34)
    deviation = (window - window.mean(dim=(1, 2), keepdim=True)).abs().flatten(1)
    best = deviation.argmax(dim=1)
    rows, columns = best // 9, best % 9
    near = ((rows - 4).abs() <= 1) & ((columns - 4).abs() <= 1)
    assert near.float().mean() > 0.7


def test_no_light_change_at_strength_zero() -> None:
    image = photograph(40, 40)
    assert change_light(image, np.random.default_rng(0), 0.0) is image


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_light_changes_values_and_keeps_structure(strength: float) -> None:
    image = photograph(96, 96, seed=1)
    changes, correlations = [], []
    for seed in range(60):
        changed = change_light(image, np.random.default_rng(seed), strength)
        again = change_light(image, np.random.default_rng(seed), strength)
        np.testing.assert_array_equal(changed, again)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        changes.append(np.abs(changed.astype(float) - image).mean())
        correlations.append(np.corrcoef(changed.ravel(), image.ravel())[0, 1])
    assert np.median(changes) > 8 * strength
    assert np.median(correlations) > 0.85
    assert min(correlations) > 0.4


def test_colors_change_like_grey() -> None:
    """All channels alike: a grey image in three channels stays grey, but for noise and JPEG."""
    grey = photograph(64, 64, seed=2)
    color = np.repeat(grey[..., None], 3, axis=2)
    for seed in range(20):
        changed = change_light(color, np.random.default_rng(seed), 0.7)
        assert changed.shape == color.shape
        assert changed.dtype == np.uint8
        spread = changed.max(axis=2).astype(int) - changed.min(axis=2)
        assert np.median(spread) < 25
    tinted = color.copy()
    tinted[..., 0] //= 4
    changed = change_light(tinted, np.random.default_rng(3), 0.7)
    assert changed[..., 0].mean() < 0.8 * changed[..., 2].mean()


def test_more_strength_is_more_change() -> None:
    image = photograph(64, 64, seed=2)
    means = [
        np.mean(
            [np.abs(change_light(image, np.random.default_rng(s), k).astype(float) - image).mean() for s in range(40)]
        )
        for k in (0.25, 0.5, 1.0)
    ]
    assert means[0] < means[1] < means[2]
