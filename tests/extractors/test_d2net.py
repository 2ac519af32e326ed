"""The D2-Net extractor against its network and loops, its pyramid, and what D2D keeps."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.d2net import Extractor, Options
from tests.detection.test_d2d import relative_by_hand
from tests.detection.test_peaks import by_hand as maxima_by_hand
from tests.networks.test_d2net import random_d2net
from tests.networks.test_l2net import bilinear_by_hand
from tests.networks.test_resunet import color_image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "d2net.safetensors"
    weights.save(path, random_d2net().state_dict(), {})
    return str(path)


@cache
def image() -> torch.Tensor:
    return color_image(50, 61, 1)


@cache
def extractor(checkpoint: str, **options: Any) -> Extractor:
    return Extractor(Options(weights=checkpoint, **options), CPU)


def dense_map(checkpoint: str, picture: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return extractor(checkpoint).network(picture)[0].numpy()


def detections_by_hand(dense: np.ndarray) -> list[tuple[float, float, float, np.ndarray, tuple[int, int]]]:
    """(x, y) in cells, value, descriptor and cell of each detection whose summit is in its cell, strongest first."""
    detected, displacement = maxima_by_hand(dense)
    height, width = detected.shape
    result = []
    for y, x in zip(*detected.nonzero(), strict=True):
        u, v = np.array([x, y]) + displacement[y, x]
        if np.abs(displacement[y, x]).max() < 0.5 and 0 <= u <= width - 1 and 0 <= v <= height - 1:
            descriptor = bilinear_by_hand(dense, 4 * u + 14, 4 * v + 14)  # that reads cell (x - 14) / 4
            result.append((u, v, dense[:, y, x].max(), descriptor, (x, y)))
    return sorted(result, key=lambda d: -d[2])


def test_single_scale_by_hand(checkpoint: str) -> None:
    found = extractor(checkpoint)(image())[0]
    expected = detections_by_hand(dense_map(checkpoint, image()))
    assert len(found) == len(expected) >= 5
    np.testing.assert_allclose(found.keypoints, [(4 * u + 1.5, 4 * v + 1.5) for u, v, *_ in expected], atol=1e-2)
    np.testing.assert_allclose(found.scores, [d[2] for d in expected], rtol=1e-5)
    np.testing.assert_allclose(found.descriptors, [d[3] for d in expected], atol=1e-4)


def test_d2d_keeps_the_salient_half(checkpoint: str) -> None:
    dense = dense_map(checkpoint, image())
    saliency = dense.std(axis=0) * relative_by_hand(dense, 3, 2)
    salient = [d for d in detections_by_hand(dense) if saliency[d[4][1], d[4][0]] > saliency.mean()]
    found = extractor(checkpoint, d2d=True, radius=3)(image())[0]
    assert 0 < len(salient) < len(detections_by_hand(dense))
    np.testing.assert_allclose(found.keypoints, [(4 * u + 1.5, 4 * v + 1.5) for u, v, *_ in salient], atol=1e-2)


def test_d2d_compares_with_the_mean_not_the_median(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map whose few strong cells pull the mean far above the median."""
    strength = np.random.default_rng(4).exponential(size=(24, 24)) ** 3 + 0.1
    dense = np.random.default_rng(5).random((512, 24, 24)).astype(np.float32) * strength.astype(np.float32)
    extract = Extractor(Options(weights=checkpoint, d2d=True, terms="absolute"), CPU)
    monkeypatch.setattr(extract, "network", lambda images: torch.from_numpy(dense)[None])
    found = extract(torch.zeros(1, 3, 100, 100))[0]
    saliency = dense.std(axis=0)
    everything = detections_by_hand(dense)
    kept = {name: [d for d in everything if saliency[d[4][1], d[4][0]] > limit] for name, limit in
            (("mean", saliency.mean()), ("median", np.median(saliency)))}  # fmt: skip
    assert 0 < len(kept["mean"]) < len(kept["median"])
    np.testing.assert_allclose(found.keypoints, [(4 * u + 1.5, 4 * v + 1.5) for u, v, *_ in kept["mean"]], atol=1e-2)


def test_the_pyramid_by_hand(checkpoint: str) -> None:
    """Maps add up from coarse to fine; what a coarse level detected is not detected again."""
    found = extractor(checkpoint, scales=(0.5, 1.0))(image())[0]
    coarse_image = F.interpolate(image(), (25, 30), mode="bilinear", align_corners=True)
    coarse = dense_map(checkpoint, coarse_image)
    upsampled = F.interpolate(torch.from_numpy(coarse)[None], (11, 14), mode="bilinear", align_corners=True)[0]
    fine = dense_map(checkpoint, image()) + upsampled.numpy()
    taken = maxima_by_hand(coarse)[0]
    expected = []
    for u, v, value, *_ in detections_by_hand(coarse):
        x, y = (4 * u + 1.5) * 60 / 29, (4 * v + 1.5) * 49 / 24  # corner pixels lie on corner pixels
        expected.append((value, x, y))
    for u, v, value, _, (x, y) in detections_by_hand(fine):
        if not taken[y * taken.shape[0] // 11, x * taken.shape[1] // 14]:
            expected.append((value / 2, 4 * u + 1.5, 4 * v + 1.5))
    expected.sort(reverse=True)
    assert len(found) == len(expected) < len(detections_by_hand(coarse)) + len(detections_by_hand(fine))
    np.testing.assert_allclose(found.scores, [value for value, _, _ in expected], rtol=1e-4)
    np.testing.assert_allclose(found.keypoints, [(x, y) for _, x, y in expected], atol=2e-2)


def test_a_batch_is_as_good_as_single_images(checkpoint: str) -> None:
    images = torch.cat([image(), image().flip(3)])
    together = extractor(checkpoint, max_keypoints=4)(images)
    for one, single in zip(together, images, strict=True):
        alone = extractor(checkpoint)(single[None])[0]
        np.testing.assert_array_equal(one.keypoints, alone.keypoints[:4])
        np.testing.assert_array_equal(one.descriptors, alone.descriptors[:4])


@pytest.mark.parametrize(("height", "width"), [(7, 60), (8, 8), (1, 1), (9, 14)])
def test_tiny_and_flat_images(checkpoint: str, height: int, width: int) -> None:
    for picture in (torch.full((1, 3, height, width), 0.5), torch.rand(1, 3, height, width)):
        for options in ({"scales": (0.5, 1.0)}, {"d2d": True}):
            found = extractor(checkpoint, **options)(picture)[0]
            assert found.descriptors.shape == (len(found), 512)
            assert min(height, width) >= 8 or len(found) == 0
            assert ((found.keypoints > -1) & (found.keypoints < [width, height])).all()


@pytest.mark.parametrize("options", [{"scales": ()}, {"scales": (2.0, 1.0)}, {"terms": "none"}, {"step": 0}])
def test_wrong_options_are_refused(checkpoint: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Extractor(Options(weights=checkpoint, **options), CPU)
