"""The SIFT extractor against OpenCV itself and against kornia's networks on kornia's patches."""

from pathlib import Path

import cv2
import kornia.feature as KF
import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.detection import sift as detection
from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.sift import Extractor, Options
from posfeat_hloc.weights.loading import load_l2net, load_posfeat, save_posfeat
from tests.networks.test_l2net import as_tensor, bilinear_by_hand, calibrated_network, textured_image
from tests.networks.test_resunet import calibrated_posfeat, color_image

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    path = tmp_path / "random.safetensors"
    weights.save(path, calibrated_network("sosnet").published(), {})
    return str(path)


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255).astype(np.uint8)


def test_rootsift_is_opencv_and_a_square_root() -> None:
    image = textured_image(120, 150, seed=1)
    found = Extractor(Options(max_keypoints=10_000), CPU)(as_tensor(image))[0]
    sift = cv2.SIFT_create(enable_precise_upscale=True)
    points, histograms = sift.detectAndCompute(to_uint8(image), None)
    order = sorted(range(len(points)), key=lambda i: (-points[i].response, points[i].pt, points[i].angle))
    np.testing.assert_array_equal(found.keypoints, [points[i].pt for i in order])
    np.testing.assert_array_equal(found.scores, np.array([points[i].response for i in order], np.float32))
    expected = np.sqrt(histograms[order] / histograms[order].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.descriptors, expected, atol=1e-6)
    assert len(found) > 100


def test_each_descriptor_belongs_to_its_keypoint() -> None:
    """Descriptors of the few strongest are those they have among all keypoints."""
    image = as_tensor(textured_image(120, 150, seed=2))
    few, many = (Extractor(Options(max_keypoints=n), CPU)(image)[0] for n in (25, 10_000))
    np.testing.assert_array_equal(few.keypoints, many.keypoints[:25])
    np.testing.assert_array_equal(few.descriptors, many.descriptors[:25])


def test_the_thresholds_are_opencvs() -> None:
    image = textured_image(120, 150, seed=3)
    options = Options(max_keypoints=10_000, contrast_threshold=0.09, edge_threshold=4)
    found = Extractor(options, CPU)(as_tensor(image))[0]
    sift = cv2.SIFT_create(contrastThreshold=0.09, edgeThreshold=4, enable_precise_upscale=True)
    assert len(found) == len(sift.detect(to_uint8(image), None))
    assert len(found) < len(Extractor(Options(max_keypoints=10_000), CPU)(as_tensor(image))[0])


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_patches_are_described_by_the_network(checkpoint: str, batch_size: int) -> None:
    image = textured_image(120, 150, seed=4)
    options = Options("sosnet", checkpoint, "patches", max_keypoints=40, precision="fp32", batch_size=batch_size)
    extractor = Extractor(options, CPU)
    found = extractor(as_tensor(image))[0]
    reference = KF.SOSNet(pretrained=False)
    reference.load_state_dict(weights.load(checkpoint).tensors)
    keypoints = detection.detect(to_uint8(image), 40, describe=False)
    with torch.inference_mode():
        expected = reference.eval()(detection.cut_patches(as_tensor(image), keypoints)).numpy()
    np.testing.assert_array_equal(found.keypoints, keypoints.keypoints)
    np.testing.assert_allclose(found.descriptors, expected, atol=1e-4)
    assert extractor.weights_sha256 == weights.sha256(Path(checkpoint))


def test_the_map_is_read_at_the_keypoints(checkpoint: str) -> None:
    image = textured_image(120, 150, seed=6)
    options = Options("sosnet", checkpoint, "map", max_keypoints=60, precision="fp32")
    found = Extractor(options, CPU)(as_tensor(image))[0]
    keypoints = detection.detect(to_uint8(image), 60, describe=False).keypoints
    with torch.inference_mode():
        dense = load_l2net("sosnet", checkpoint)[0](as_tensor(image))[0].numpy()
    np.testing.assert_array_equal(found.keypoints, keypoints)
    np.testing.assert_allclose(found.descriptors, [bilinear_by_hand(dense, x, y) for x, y in keypoints], atol=1e-4)


def test_images_smaller_than_a_cell_have_no_map(checkpoint: str) -> None:
    stripe = as_tensor(textured_image(28, 150, seed=6))
    by_reading = {
        reading: Extractor(Options("sosnet", checkpoint, reading, precision="fp32"), CPU)(stripe)[0]
        for reading in ("map", "patches")
    }
    assert len(by_reading["map"]) == 0
    assert len(by_reading["patches"]) > 5


def test_unknown_readings_are_refused(checkpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="'patches' or 'map', not 'dense'"):
        Extractor(Options("sosnet", checkpoint, "dense"), CPU)


@pytest.mark.parametrize("descriptor", ["rootsift", "sosnet"])
def test_flat_images_have_no_features(checkpoint: str, descriptor: str) -> None:
    images = torch.cat([torch.full((1, 1, 90, 90), 0.5), as_tensor(textured_image(90, 90, seed=5))])
    flat, textured = Extractor(Options(descriptor, checkpoint), CPU)(images)
    assert len(flat) == 0
    assert flat.descriptors.shape == (0, 128)
    assert len(textured) > 20


def test_rootsift_needs_no_weights() -> None:
    assert Extractor(Options(weights="no such file"), CPU).weights_sha256 == ""


def test_posfeat_descriptors_are_read_at_the_keypoints(tmp_path: Path) -> None:
    path, image = tmp_path / "posfeat.safetensors", color_image(75, 90, 3)
    save_posfeat(path, calibrated_posfeat(), "published")
    extractor = Extractor(Options("posfeat", str(path), precision="fp32"), CPU)
    found = extractor(image)[0]
    cropped = image[..., :64, :80]
    grey = cv2.cvtColor(to_uint8(cropped[0].permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
    keypoints = detection.detect(grey, 8192, describe=False).keypoints
    with torch.inference_mode():
        dense = load_posfeat(str(path)).backbone(cropped).local_map[0]
        expected = read_descriptors(dense, torch.from_numpy(keypoints), "published").numpy()
    np.testing.assert_array_equal(found.keypoints, keypoints)
    np.testing.assert_allclose(found.descriptors, expected, atol=1e-4)
    assert len(found) > 20
    assert not extractor.grayscale
    assert extractor.weights_sha256 == weights.sha256(path)
    assert len(extractor(image[..., :15])[0]) == 0  # nothing is left of so narrow an image
