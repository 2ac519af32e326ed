"""The SuperPoint extractor against its network and loops, and what D2D's threshold keeps."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.detection.d2d import score_map
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.superpoint import Extractor, Options, upsampled
from posfeat_hloc.networks.superpoint import read_map
from tests.detection.test_peaks import greedy_by_hand
from tests.networks.test_l2net import as_tensor, bilinear_by_hand, textured_image
from tests.networks.test_superpoint import random_superpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "superpoint.safetensors"
    weights.save(path, random_superpoint().state_dict(), {})
    return str(path)


def extractor(checkpoint: str, **options: Any) -> Extractor:
    return Extractor(Options(weights=checkpoint, **options), CPU)


@cache
def image() -> torch.Tensor:
    return as_tensor(textured_image(53, 70, seed=2))


def maps_of(checkpoint: str, picture: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    with torch.inference_mode():
        maps = extractor(checkpoint).network(picture)
    return maps.scores[0].numpy(), maps.descriptors


@pytest.mark.parametrize("sampling", ["published", "consistent"])
def test_keypoints_are_greedy_peaks_described_where_they_are(checkpoint: str, sampling: str) -> None:
    scores, dense = maps_of(checkpoint, image())
    found = extractor(checkpoint, sampling=sampling, threshold=0.05)(image())[0]
    expected = greedy_by_hand(scores, 4, 0.05, 4, None)
    assert len(found) > 10
    assert scores.shape == (48, 64)
    np.testing.assert_array_equal(found.keypoints, expected)
    np.testing.assert_array_equal(found.scores, [scores[y, x] for x, y in expected])
    unit = torch.nn.functional.normalize(dense[0], dim=0).numpy()
    for (x, y), descriptor in list(zip(expected, found.descriptors, strict=True))[:10]:
        if sampling == "published":
            column, row = (x / 64 * 2 - 1 + 1) / 2 * 7, (y / 48 * 2 - 1 + 1) / 2 * 5
        else:
            column, row = (x - 3.5) / 8, (y - 3.5) / 8
        by_hand = bilinear_by_hand(unit, 4 * column + 14, 4 * row + 14)  # that reads cell (x - 14) / 4
        np.testing.assert_allclose(descriptor, by_hand, atol=1e-5)


def test_a_batch_is_as_good_as_single_images(checkpoint: str) -> None:
    images = torch.cat([image(), image().flip(3)])
    extract = extractor(checkpoint, max_keypoints=12)
    together, alone = extract(images), [extract(single[None])[0] for single in images]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        np.testing.assert_array_equal(a.descriptors, b.descriptors)
        assert len(a) == 12


def test_the_threshold_follows_the_saliency(checkpoint: str) -> None:
    """Eq. 5 with S_D2D of mean one: the same keypoints in the same order, down to another score."""
    picture = image().clone()
    picture[..., :40] = 0.5  # flat: less salient than the texture
    scores, dense = maps_of(checkpoint, picture)
    saliency = score_map(dense, 2, 1, "normalized", "relative")
    saliency = upsampled(saliency)[0].numpy()
    scale = (saliency * scores).sum() / scores.sum()  # alpha* / alpha
    peaks = sorted(scores[y, x] for x, y in greedy_by_hand(scores, 4, 0.02, 4, None))
    alpha = float(peaks[len(peaks) // 2]) / (1 + scale) * 2  # a peak lies between alpha and alpha*
    limit = alpha * scale
    options = {"threshold": alpha, "radius": 2, "step": 1, "relative_on": "normalized", "terms": "relative"}
    found = extractor(checkpoint, d2d="threshold", **options)(picture)[0]
    np.testing.assert_array_equal(found.keypoints, greedy_by_hand(scores, 4, limit, 4, None))
    assert len(found) != len(greedy_by_hand(scores, 4, alpha, 4, None))  # the equation is there
    product = extractor(checkpoint, d2d="product", **options)(picture)[0]
    np.testing.assert_array_equal(product.keypoints, greedy_by_hand(scores * saliency, 4, limit, 4, None))
    x, y = product.keypoints.astype(int).T
    np.testing.assert_allclose(product.scores, (scores * saliency)[y, x], rtol=1e-5)
    assert abs(scale - 1) > 0.02
    read = read_map(dense[0], torch.from_numpy(product.keypoints), "published")
    np.testing.assert_allclose(product.descriptors, read, atol=1e-6)


def test_saliency_is_stretched_around_the_centres_of_cells() -> None:
    saliency = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    full = upsampled(saliency)[0]
    assert full.shape == (16, 16)
    # pixel 7 is half a pixel left of the border of both cells, whose centres are 8 pixels apart
    np.testing.assert_allclose(full[0, [0, 3, 7, 8, 12, 15]], np.array([1, 1, 1.875, 2.125, 3, 3]) / 4)
    assert full.mean() == pytest.approx(1)
    assert torch.equal(upsampled(torch.zeros(1, 2, 2)), torch.ones(1, 16, 16))


@pytest.mark.parametrize("d2d", ["off", "threshold", "product"])
@pytest.mark.parametrize(("height", "width"), [(7, 90), (8, 8), (1, 1), (24, 31)])
def test_tiny_and_flat_images(checkpoint: str, d2d: str, height: int, width: int) -> None:
    for picture in (torch.full((2, 1, height, width), 0.5), torch.rand(1, 1, height, width)):
        for found in extractor(checkpoint, d2d=d2d)(picture):
            assert found.descriptors.shape == (len(found), 256)
            assert np.isfinite(found.scores).all()
            assert len(found) == 0 or min(height, width) > 8  # a single cell lies within the border
            np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"d2d": "on"}, {"sampling": "best"}, {"terms": "none"}, {"radius": 0}, {"nms_radius": -1}]
)
def test_wrong_options_are_refused(checkpoint: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        extractor(checkpoint, **options)


def test_the_hash_is_that_of_the_weights(checkpoint: str) -> None:
    assert extractor(checkpoint).weights_sha256 == weights.sha256(Path(checkpoint))
