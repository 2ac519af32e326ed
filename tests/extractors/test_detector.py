"""OpenCV's and XFeat's calls give the extractor's keypoints; torch.hub finds them."""

from __future__ import annotations

import runpy
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.detector import Detector
from tests.docs.pages import REPOSITORY
from tests.networks.test_resunet import color_image


def colors() -> NDArray[np.uint8]:
    """RGB in 8 bits."""
    return (color_image(64, 80, 5)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def extracted(feature: str, image: Tensor, count: int) -> Any:
    model = extractors.with_limit(confs.extractors[feature]["model"], count)
    return extractors.create(model)(image)


def as_tensor(rgb: NDArray[np.uint8]) -> Tensor:
    return torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("feature", ["posfeat-small", "d2d-hardnet-subpixel", "sift"])
def test_both_calls_give_what_the_extractor_gives(feature: str) -> None:
    rgb = colors()
    image = as_tensor(rgb)
    seen = image if feature == "posfeat-small" else (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(
        1, keepdim=True
    )  # fmt: skip
    (expected,) = extracted(feature, seen, 30)
    detector = Detector(feature, max_keypoints=30, device="cpu")
    (found,) = detector.detectAndCompute(image)
    assert len(expected) > 5
    np.testing.assert_allclose(found["keypoints"], expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(found["descriptors"], expected.descriptors, atol=1e-3)
    keypoints, descriptors = detector.detectAndCompute(np.ascontiguousarray(rgb[..., ::-1]))  # OpenCV's order
    np.testing.assert_allclose([keypoint.pt for keypoint in keypoints], expected.keypoints, atol=1e-3)
    np.testing.assert_allclose([keypoint.response for keypoint in keypoints], expected.scores, rtol=1e-3)
    assert descriptors is not None
    assert descriptors.dtype == np.float32
    np.testing.assert_allclose(descriptors, expected.descriptors, atol=1e-3)
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(descriptors, descriptors)
    assert all(match.queryIdx == match.trainIdx for match in matches)


def test_grey_images_and_masks() -> None:
    grey = cv2.cvtColor(colors(), cv2.COLOR_RGB2GRAY)
    detector = Detector("posfeat-small", max_keypoints=40, device="cpu")
    everywhere, _ = detector.detectAndCompute(grey)
    (found,) = detector.detectAndCompute(torch.tensor(grey)[None, None] / 255)
    np.testing.assert_allclose([keypoint.pt for keypoint in everywhere], found["keypoints"], atol=1e-3)
    mask = np.zeros(grey.shape, np.uint8)
    mask[:, 40:] = 255
    right, descriptors = detector.detectAndCompute(grey, mask)
    assert [k.pt for k in right] == [k.pt for k in everywhere if round(k.pt[0]) >= 40]
    assert descriptors is not None
    assert len(right) == len(descriptors) > 0
    assert detector.detectAndCompute(grey, np.zeros_like(mask)) == ((), None)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"feature 'orb' does not exist; choose from .*posfeat-small"):
        Detector("orb")
    detector = Detector("sift", device="cpu")
    with pytest.raises(ConfigurationError, match=r"not \(4, 5, 3\) of float32"):
        detector.detectAndCompute(np.zeros((4, 5, 3), np.float32))  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match=r"the mask is \(4, 4\), the image \(4, 5\)"):
        detector.detectAndCompute(np.zeros((4, 5), np.uint8), np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigurationError, match=r"not \(3, 4, 5\) of torch.float32"):
        detector.detectAndCompute(torch.zeros(3, 4, 5))


def test_torch_hub_finds_the_features() -> None:
    offered = runpy.run_path(str(REPOSITORY / "hubconf.py"))
    for name in ("posfeat_small", "posfeat", "d2d_hardnet_subpixel"):
        assert callable(offered[name])
    detector = torch.hub.load(str(REPOSITORY), "posfeat_small", source="local", max_keypoints=12, device="cpu")
    assert detector.feature == "posfeat-small"
    assert len(detector.detectAndCompute(as_tensor(colors()))[0]["scores"]) == 12
