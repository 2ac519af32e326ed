"""SIFT positions, angles and scales where they are known, RootSIFT and the frames of patches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posfeat_hloc.detection.sift import PATCH_MAGNIFICATION, SiftKeypoints, cut_patches, detect, root_sift
from tests.networks.test_l2net import as_tensor, textured_image


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)


def nearest(found: SiftKeypoints, x: float, y: float, sigma: float) -> int:
    """The keypoint closest to a place and a scale."""
    offset = np.linalg.norm(found.keypoints - [x, y], axis=1)
    return int(np.argmin(offset + 5 * np.abs(np.log(found.scales / sigma))))


@pytest.mark.parametrize("sign", [0.4, -0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_blobs_are_found_where_they_are(sign: float, seed: int) -> None:
    """Within 0.15 pixel each and without a common shift; OpenCV misses some of such perfect blobs."""
    rng = np.random.default_rng(seed)
    columns, rows = grid(400, 500)
    image = np.full((400, 500), 0.5)
    blobs = [(x, y) for x in range(50, 500, 80) for y in range(50, 400, 100)] + rng.uniform(-9, 9, (24, 2))
    sigmas = rng.uniform(2.5, 7, 24)
    for (x, y), sigma in zip(blobs, sigmas, strict=True):
        image += sign * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    found = detect(to_uint8(image), 1000)
    errors = []
    for (x, y), sigma in zip(blobs, sigmas, strict=True):
        best = nearest(found, x, y, sigma)
        if np.abs(found.keypoints[best] - [x, y]).max() < 3:
            errors.append(found.keypoints[best] - [x, y])
            assert 0.8 < found.scales[best] / sigma < 1.2  # the extremum of differences of Gaussians
    assert len(errors) > 12
    assert np.abs(errors).max() < 0.15
    assert np.abs(np.mean(errors, axis=0)).max() < 0.05


@pytest.mark.parametrize("degrees", [0, 33, 90, 140, 215, 300])
def test_the_angle_points_to_the_bright_side(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    columns, rows = grid(120, 120)
    slope = ((columns - 60) * np.cos(angle) + (rows - 60) * np.sin(angle)) * 0.004  # y points down: clockwise
    found = detect(to_uint8(0.5 + slope + 0.15 * np.exp(-((columns - 60) ** 2 + (rows - 60) ** 2) / 50)), 50)
    best = nearest(found, 60, 60, 5)
    assert abs((found.angles[best] - degrees + 180) % 360 - 180) < 15


def test_the_strongest_come_first_and_the_count_is_kept() -> None:
    image = to_uint8(textured_image(160, 200, seed=1))
    everything, some = detect(image, 5000), detect(image, 60)
    assert len(some.keypoints) == 60 < len(everything.keypoints)
    assert (np.diff(some.scores) <= 0).all()
    assert some.scores.min() == pytest.approx(np.sort(everything.scores)[-60])


def test_nothing_on_a_flat_image() -> None:
    found = detect(np.full((60, 80), 128, np.uint8), 100)
    assert found.keypoints.shape == (0, 2)
    assert found.descriptors is not None
    assert found.descriptors.shape == (0, 128)


def test_root_sift_of_known_histograms() -> None:
    histograms = np.zeros((3, 128), np.float32)
    histograms[0, :4] = 1, 4, 4, 16
    histograms[1, 5] = 7
    result = root_sift(histograms)
    np.testing.assert_allclose(result[0, :5], np.sqrt([1 / 25, 4 / 25, 4 / 25, 16 / 25, 0]), rtol=1e-6)
    assert result[1, 5] == 1
    assert not result[2].any()  # an empty histogram stays empty, not NaN


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, (4, 128), elements=st.integers(0, 255)))
def test_root_sift_compares_by_hellinger(histograms: np.ndarray) -> None:
    histograms[:, 0] += 1
    shares = histograms.astype(np.float64) / histograms.sum(axis=1, dtype=np.float64, keepdims=True)
    result = root_sift(histograms)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(result @ result.T, np.sqrt(shares) @ np.sqrt(shares).T, rtol=1e-4)


def one_keypoint(x: float, y: float, sigma: float, degrees: float) -> SiftKeypoints:
    vector = [np.array([value], np.float32) for value in (sigma, degrees, 1)]
    return SiftKeypoints(np.array([[x, y]], np.float32), vector[0], vector[1], vector[2], None)


@pytest.mark.parametrize("degrees", [0, 25, 90, 200, 310])
@pytest.mark.parametrize("sigma", [2.5, 4.0])
def test_in_its_frame_a_slope_runs_along_x(degrees: float, sigma: float) -> None:
    columns, rows = grid(120, 140)
    angle = np.deg2rad(degrees)
    x, y = 66.4, 58.2
    slope = 0.5 + 0.005 * ((columns - x) * np.cos(angle) + (rows - y) * np.sin(angle))
    patch = cut_patches(as_tensor(slope.astype(np.float32)), one_keypoint(x, y, sigma, degrees))[0, 0].numpy()
    pixels = (np.arange(32) - 15.5) * PATCH_MAGNIFICATION * sigma / 32  # from the keypoint to the cells' centres
    np.testing.assert_allclose(patch, np.tile(0.5 + 0.005 * pixels, (32, 1)), atol=2e-4)


def test_an_upright_frame_of_32_pixels_is_a_crop() -> None:
    image = textured_image(80, 90, seed=2)
    patch = cut_patches(as_tensor(image), one_keypoint(40.5, 35.5, 32 / PATCH_MAGNIFICATION, 0))[0, 0].numpy()
    np.testing.assert_allclose(patch, image[20:52, 25:57], atol=1e-4)


def quarter_turned(found: SiftKeypoints, width: int) -> SiftKeypoints:
    """The keypoints of an image of this width after a quarter turn counter-clockwise."""
    x, y = found.keypoints.T
    keypoints = np.stack([y, width - 1 - x], axis=1)
    return SiftKeypoints(keypoints, found.scales, (found.angles - 90) % 360, found.scores, None)


def test_patches_turn_with_the_image() -> None:
    image = textured_image(192, 224, seed=3)
    turned = np.ascontiguousarray(np.rot90(image))
    found = detect(to_uint8(image), 80)
    expected = cut_patches(as_tensor(image), found)
    result = cut_patches(as_tensor(turned), quarter_turned(found, 224))
    assert (result - expected).abs().max() < 0.02
    assert expected.flatten(1).std(dim=1).mean() > 0.1
    assert np.abs(np.sin(np.deg2rad(2 * found.angles))).max() > 0.9  # a wrong sign would show


def test_detection_turns_with_the_image() -> None:
    image = textured_image(192, 224, seed=3)
    turned = np.ascontiguousarray(np.rot90(image))
    wanted, found = quarter_turned(detect(to_uint8(image), 100), 224), detect(to_uint8(turned), 100)
    patches = cut_patches(as_tensor(image), detect(to_uint8(image), 100))
    again = cut_patches(as_tensor(turned), found)
    together, similar = 0, 0
    for i in range(len(wanted.keypoints)):
        offset = np.abs(found.keypoints - wanted.keypoints[i]).max(axis=1)
        angle = np.abs((found.angles - wanted.angles[i] + 180) % 360 - 180)
        same = np.flatnonzero((offset < 0.3) & (angle < 10) & (np.abs(np.log(found.scales / wanted.scales[i])) < 0.1))
        together += len(same) > 0
        similar += any(float((patches[i] - again[j]).abs().mean()) < 0.02 for j in same)
    assert together >= 0.85 * len(wanted.keypoints)
    assert similar >= 0.8 * len(wanted.keypoints)


def test_large_frames_are_resampled_without_aliasing() -> None:
    columns, rows = grid(256, 256)
    checks = ((columns.astype(int) + rows.astype(int)) % 2).astype(np.float32)  # the finest texture there is
    patch = cut_patches(as_tensor(checks), one_keypoint(128, 128, 16, 10))[0, 0]
    torch.testing.assert_close(patch, torch.full_like(patch, 0.5), rtol=0, atol=0.02)
