"""The XFeat extractor against kornia's own calls, and where its keypoints lie."""

from pathlib import Path

import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.extractors.xfeat import Extractor, Options
from posfeat_hloc.weights.conversion import identify
from tests.extractors.peers import KORNIA_HAS_PEERS, WITHOUT_PEERS, random_xfeat, save_random_xfeat
from tests.networks.test_resunet import color_image

pytestmark = pytest.mark.skipif(not KORNIA_HAS_PEERS, reason=WITHOUT_PEERS)
CPU = torch.device("cpu")
LOW = 0.01
"""Below most values of an untrained keypoint map, which are near 1 / 65."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "xfeat.pt"
    save_random_xfeat(path)
    return str(path)


def test_keypoints_and_descriptors_are_kornias(checkpoint: str) -> None:
    image = color_image(64, 96, 3)
    options = Options(weights=checkpoint, max_keypoints=20, threshold=LOW)
    found = Extractor(options, CPU)(torch.cat([image.flip(2), image]))[1]
    expected = random_xfeat().detectAndCompute(image, top_k=20, detection_threshold=LOW)[0]
    assert len(found) == 20
    np.testing.assert_array_equal(found.keypoints, expected["keypoints"])  # 64 and 96 are multiples of 32
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5)
    np.testing.assert_allclose(found.descriptors, expected["descriptors"], atol=1e-6)
    assert np.all(np.diff(found.scores) <= 0)


def test_keypoints_are_centres_of_the_resized_images_pixels(checkpoint: str) -> None:
    """77 x 90 becomes 64 x 64: pixel i covers [i, i + 1) * 90 / 64, and its centre is what a keypoint is."""
    found = Extractor(Options(weights=checkpoint, threshold=LOW, max_keypoints=None), CPU)(color_image(77, 90, 3))[0]
    assert len(found) > 20
    index = (found.keypoints + 0.5) / np.array([90 / 64, 77 / 64]) - 0.5
    np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
    assert index.min() > -0.5
    assert index.max() < 63.5
    inside = found.keypoints < np.array([90, 77]) - 0.5
    assert np.all((found.keypoints > -0.5) & inside)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 700), (31, 33)])
def test_tiny_and_flat_images(checkpoint: str, height: int, width: int) -> None:
    extractor = Extractor(Options(weights=checkpoint, threshold=LOW), CPU)
    for picture in (torch.full((1, 3, height, width), 0.5), torch.rand(1, 3, height, width)):
        found = extractor(picture)[0]
        assert found.descriptors.shape == (len(found), 64)
        assert np.isfinite(found.descriptors).all()


def test_the_weights_say_what_they_are(checkpoint: str, tmp_path: Path) -> None:
    assert identify(checkpoint).name == "XFeat"
    weights.save(tmp_path / "other.safetensors", {"unet.weight": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="not the weights of XFeat"):
        Extractor(Options(weights=str(tmp_path / "other.safetensors")), CPU)
