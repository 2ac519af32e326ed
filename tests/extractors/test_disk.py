"""The DISK extractor against kornia's own calls."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.feature import DISK
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.extractors.disk import Extractor, Options, dense_descriptors
from tests.networks.test_resunet import color_image

CPU = torch.device("cpu")


@cache
def random_disk() -> DISK:
    torch.manual_seed(0)
    return DISK().eval()


def save_random_disk(path: Path) -> None:
    """A file as DISK's authors publish it."""
    torch.save({"extractor": random_disk().state_dict()}, path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "depth-save.pth"
    save_random_disk(path)
    return str(path)


@cache
def image() -> Tensor:
    return color_image(45, 52, 3)


def test_keypoints_and_descriptors_are_kornias(checkpoint: str) -> None:
    options = Options(weights=checkpoint, max_keypoints=15, window=7, threshold=-1.0)
    found = Extractor(options, CPU)(torch.cat([image().flip(2), image()]))[1]
    with torch.inference_mode():
        expected = random_disk()(image(), 15, 7, -1.0, pad_if_not_divisible=True)[0]
    order = expected.detection_scores.argsort(descending=True)
    assert len(found) == len(order) == 15
    np.testing.assert_array_equal(found.keypoints, expected.keypoints[order])
    np.testing.assert_array_equal(found.scores, expected.detection_scores[order])
    np.testing.assert_array_equal(found.descriptors, expected.descriptors[order])


def test_dense_descriptors_are_those_of_the_keypoints(checkpoint: str) -> None:
    found = Extractor(Options(weights=checkpoint, threshold=-5.0), CPU)(image())[0]
    with torch.inference_mode():
        dense = dense_descriptors(random_disk(), image())[0].numpy()
    assert dense.shape == (128, 45, 52)
    x, y = found.keypoints.astype(int).T
    read = dense[:, y, x].T
    np.testing.assert_allclose(read / np.linalg.norm(read, axis=1, keepdims=True), found.descriptors, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 90), (16, 16), (1, 1), (17, 17)])
def test_tiny_and_flat_images(checkpoint: str, height: int, width: int) -> None:
    for picture in (torch.full((1, 3, height, width), 0.5), torch.rand(1, 3, height, width)):
        found = Extractor(Options(weights=checkpoint), CPU)(picture)[0]
        assert found.descriptors.shape == (len(found), 128)
        assert min(height, width) > 16 or len(found) == 0


def test_what_is_refused(checkpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="odd and positive, not 4"):
        Extractor(Options(weights=checkpoint, window=4), CPU)
    weights.save(tmp_path / "other.safetensors", {"unet.weight": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="not the weights of DISK"):
        Extractor(Options(weights=str(tmp_path / "other.safetensors")), CPU)
