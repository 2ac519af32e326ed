"""No keypoints where there is nothing to see; all of them where there is."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc import confs, extractors
from posfeat_hloc.detection.selection import ABOVE_NOISE, REACH, VISIBLE
from posfeat_hloc.features import Features

OURS = ("posfeat-small", "posfeat", "d2d-hardnet-subpixel", "d2d-sosnet-subpixel")
PUBLISHED = ("posfeat-hpatches", "posfeat-aachen", "posfeat-eth", "d2d-hardnet")


@cache
def extractor_of(name: str, min_contrast: float | None) -> extractors.Extractor:
    options = {} if min_contrast is None else {"min_contrast": min_contrast}
    return extractors.create(confs.extractors[name]["model"] | {"max_keypoints": 600} | options)


def extract(name: str, picture: NDArray[np.uint8], min_contrast: float | None = None) -> Features:
    extractor = extractor_of(name, min_contrast)
    grey = torch.from_numpy(picture).float()[None, None] / 255
    image: Tensor = grey if extractor.grayscale else grey.expand(-1, 3, -1, -1)
    return extractor(image)[0]


@pytest.mark.parametrize("grey", [0, 117, 255])
@pytest.mark.parametrize("name", [*OURS, *PUBLISHED, "sift"])
def test_a_picture_of_one_grey_has_no_keypoints(name: str, grey: int) -> None:
    assert len(extract(name, np.full((96, 128), grey, np.uint8))) == 0


@pytest.mark.parametrize("background", [0, 255])
@pytest.mark.parametrize("name", [*OURS, *PUBLISHED])
def test_a_blank_background_has_no_keypoints(
    name: str, background: int, texture: Callable[..., NDArray[np.uint8]]
) -> None:
    picture = np.full((160, 192), background, np.uint8)
    picture[48:112, 48:144] = texture(3, 96, 64)
    found = extract(name, picture)
    low, high = np.array([48, 48]), np.array([143, 111])
    outside = np.maximum(low - found.keypoints, found.keypoints - high).max(axis=1)
    assert len(found) > 50
    assert outside.max() <= REACH + 4.5  # smoothing over two cells of two pixels, half a pixel of refinement


@pytest.mark.parametrize("name", OURS)
def test_noise_of_a_grey_level_has_no_keypoints(name: str) -> None:
    noise = np.random.default_rng(0).normal(128, 1, (96, 128)).round().astype(np.uint8)
    assert len(extract(name, noise)) == 0


@pytest.mark.parametrize("name", [*OURS, *PUBLISHED])
def test_texture_keeps_all_its_keypoints(name: str, texture: Callable[..., NDArray[np.uint8]]) -> None:
    picture = texture(4, 128, 96)
    default, everywhere = extract(name, picture), extract(name, picture, min_contrast=0.0)
    np.testing.assert_array_equal(default.keypoints, everywhere.keypoints)
    np.testing.assert_array_equal(default.descriptors, everywhere.descriptors)


def test_confs_say_how_sensitive_they_are() -> None:
    for name in OURS:
        assert confs.extractors[name]["model"]["min_contrast"] == ABOVE_NOISE
        assert confs.extractors[name]["model"]["spread"]
    for name in PUBLISHED:
        assert confs.extractors[name]["model"]["min_contrast"] == VISIBLE
        assert "spread" not in confs.extractors[name]["model"]
