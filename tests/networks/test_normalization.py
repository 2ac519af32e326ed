"""Patch and local normalisation against loops over pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.networks.normalization import CLAMP, normalize_locally, normalize_patches


def local_by_hand(image: np.ndarray, window: int, eps: float) -> np.ndarray:
    """Mean and deviation of the reflected box around every pixel, one pixel at a time."""
    height, width = image.shape
    half_y, half_x = min(window // 2, height - 1), min(window // 2, width - 1)
    padded = np.pad(image.astype(np.float64), ((half_y, half_y), (half_x, half_x)), mode="reflect")
    result = np.empty(image.shape)
    for y in range(height):
        for x in range(width):
            box = padded[y : y + 2 * half_y + 1, x : x + 2 * half_x + 1]
            result[y, x] = (image[y, x] - box.mean()) / (box.std() + eps)
    return np.clip(result, -6, 6)


def normalized(image: np.ndarray, window: int, eps: float) -> np.ndarray:
    return normalize_locally(torch.from_numpy(image)[None, None], window, eps)[0, 0].numpy()


@pytest.mark.parametrize(
    ("shape", "window", "eps"),
    [
        ((24, 31), 7, 1e-7),
        ((24, 31), 17, 0.01),
        ((40, 35), 33, 1e-7),
        ((12, 60), 33, 1e-7),  # lower than half the window: the box shrinks to what reflection allows
        ((9, 5), 33, 0.01),
        ((6, 1), 5, 0.01),
    ],
)
def test_local_normalisation_is_the_loop_over_pixels(shape: tuple[int, int], window: int, eps: float) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(normalized(image, window, eps), local_by_hand(image, window, eps), atol=2e-4)


def test_images_of_a_batch_do_not_mix() -> None:
    rng = np.random.default_rng(1)
    bright, dark = rng.random((20, 20), np.float32) * 100, rng.random((20, 20), np.float32) / 100
    both = normalize_locally(torch.from_numpy(np.stack([bright, dark]))[:, None], 9, 1e-7)[:, 0].numpy()
    np.testing.assert_allclose(both[0], local_by_hand(bright, 9, 1e-7), atol=2e-4)
    np.testing.assert_allclose(both[1], local_by_hand(dark, 9, 1e-7), atol=2e-4)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    gain=st.floats(0.01, 100),
    bias=st.floats(-2, 2),
    window=st.sampled_from([5, 17, 33]),
)
def test_exposure_does_not_matter_without_eps(seed: int, gain: float, bias: float, window: int) -> None:
    image = np.random.default_rng(seed).random((30, 40))
    expected = normalized(image.astype(np.float32), window, 1e-12)
    changed = normalized((gain * (image + bias)).astype(np.float32), window, 1e-12)
    np.testing.assert_allclose(changed, expected, atol=1e-3)


def test_eps_keeps_flat_areas_flat() -> None:
    rng = np.random.default_rng(2)
    sky = (0.8 + 1e-3 * rng.standard_normal((64, 64))).astype(np.float32)
    noisy, flat = normalized(sky, 33, 1e-7), normalized(sky, 33, 0.01)
    assert 0.9 < noisy.std() < 1.1
    np.testing.assert_allclose(flat.std(), 1 / 11, rtol=0.1)  # sigma / (sigma + eps)


def test_a_flat_area_in_a_contrasted_image_is_zero() -> None:
    image = np.random.default_rng(3).random((90, 90), np.float32)
    image[20:70, 20:70] = 0.7
    assert np.abs(normalized(image, 17, 1e-7)[28:62, 28:62]).max() < 0.01


def test_outliers_are_clamped() -> None:
    image = np.zeros((65, 65), np.float32)
    image[32, 32], image[10, 50] = 1.0, -1.0
    result = normalized(image, 33, 1e-7)
    assert result.max() == CLAMP == 6
    assert result.min() == -6
    assert result[32, 32] == 6
    assert result[10, 50] == -6


@pytest.mark.parametrize("window", [0, -3, 32])
def test_even_windows_are_refused(window: int) -> None:
    with pytest.raises(ValueError, match="odd and positive"):
        normalize_locally(torch.rand(1, 1, 40, 40), window)


def test_patches_get_zero_mean_and_unit_deviation() -> None:
    rng = np.random.default_rng(4)
    patches = rng.random((5, 1, 32, 32), np.float32) * np.array([1e-2, 1, 3, 50, 255], np.float32)[:, None, None, None]
    expected = np.stack([(p - p.mean(dtype=np.float64)) / (p.std(dtype=np.float64, ddof=1) + 1e-7) for p in patches])
    np.testing.assert_allclose(normalize_patches(torch.from_numpy(patches)).numpy(), expected, atol=2e-4)


def test_a_flat_patch_stays_finite() -> None:
    assert torch.equal(normalize_patches(torch.full((1, 1, 32, 32), 0.25)), torch.zeros(1, 1, 32, 32))
