"""The D2D extractor: the best cells of the dense map, in pixels, with their descriptors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.extractors.d2d import Extractor, Options, detect
from posfeat_hloc.networks.l2net import L2Net
from tests.networks.test_l2net import as_tensor, calibrated_network, textured_image

CPU = torch.device("cpu")
EVERY_CELL = 10**6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    weights.save(path, calibrated_network().published(), {"window": "17", "eps": "0.001"})
    return str(path)


def extractor(checkpoint: str, max_keypoints: int, **options: object) -> Extractor:
    return Extractor(Options(weights=checkpoint, max_keypoints=max_keypoints, precision="fp32", **options), CPU)


def saliency(raw: np.ndarray) -> np.ndarray:
    """S_D2D of one ``(D, h, w)`` map in the paper's setting, by shifting copies over a NaN border."""
    _, height, width = raw.shape
    padded = np.pad(raw.astype(np.float64), ((0, 0), (5, 5), (5, 5)), constant_values=np.nan)
    offsets = (0, 2, 4, 6, 8, 10)
    distances = [
        np.linalg.norm(padded[:, dy : dy + height, dx : dx + width] - raw, axis=0) for dy in offsets for dx in offsets
    ]
    return raw.std(axis=0) * np.nanmean(distances, axis=0)


def test_the_best_cells_become_features(checkpoint: str) -> None:
    image = as_tensor(textured_image(110, 131, seed=1))
    found = extractor(checkpoint, 60)(image)[0]
    with torch.inference_mode():
        network = L2Net("hardnet", 17, 0.001).eval()
        network.load_published(weights.load(checkpoint).tensors)
        raw = network(image)[0].numpy()
    scores = saliency(raw)
    rows, columns = np.unravel_index(np.argsort(-scores, axis=None)[:60], scores.shape)
    np.testing.assert_array_equal(found.keypoints, np.stack([4 * columns + 14, 4 * rows + 14], axis=1))
    np.testing.assert_allclose(found.scores, scores[rows, columns], rtol=1e-4)
    expected = raw[:, rows, columns].T
    np.testing.assert_allclose(found.descriptors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_images_of_a_batch_do_not_mix(checkpoint: str) -> None:
    images = torch.cat([as_tensor(textured_image(80, 90, seed=seed)) for seed in (1, 2)])
    extract = extractor(checkpoint, 50)
    for image, together in zip(images, extract(images), strict=True):
        alone = extract(image[None])[0]
        np.testing.assert_array_equal(together.keypoints, alone.keypoints)
        np.testing.assert_allclose(together.descriptors, alone.descriptors, atol=1e-5)


def test_a_shifted_image_has_shifted_keypoints(checkpoint: str) -> None:
    scene = textured_image(208, 224, seed=3)
    extract = extractor(checkpoint, EVERY_CELL)
    left, right = (extract(as_tensor(scene[:, start : start + 220]))[0] for start in (0, 4))
    # what a keypoint depends on: 25 pixels of receptive field, 8 of normalisation, 20 of neighbours
    reach = 25 + 8 + 20
    kept = []
    for found, shift in ((left, 0), (right, 4)):
        in_scene = found.keypoints + np.array([shift, 0], np.float32)
        inner = ((in_scene >= 4 + reach) & (in_scene <= [219 - reach, 207 - reach])).all(axis=1)
        kept.append((in_scene[inner], found.scores[inner], found.descriptors[inner]))
    assert len(kept[0][0]) > 500
    rows = {tuple(keypoint): row for row, keypoint in enumerate(kept[1][0].tolist())}
    order = [rows[tuple(keypoint)] for keypoint in kept[0][0].tolist()]
    np.testing.assert_allclose(kept[1][1][order], kept[0][1], rtol=1e-3)
    np.testing.assert_allclose(kept[1][2][order], kept[0][2], atol=1e-3)
    best = [{tuple(keypoint) for keypoint in keypoints[:200].tolist()} for keypoints, _, _ in kept]
    assert len(best[0] & best[1]) >= 198  # rounding may exchange the last ones


def test_more_keypoints_than_cells(checkpoint: str) -> None:
    found = extractor(checkpoint, EVERY_CELL)(as_tensor(textured_image(41, 50, seed=4)))[0]
    expected = {(4.0 * x + 14, 4.0 * y + 14) for x in range(13 - 7) for y in range(11 - 7)}
    assert {tuple(keypoint) for keypoint in found.keypoints.tolist()} == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(("height", "width", "count"), [(28, 90, 0), (90, 28, 0), (29, 29, 1), (1, 1, 0)])
def test_images_without_a_cell_have_no_features(checkpoint: str, height: int, width: int, count: int) -> None:
    found = extractor(checkpoint, 100)(torch.rand(2, 1, height, width))
    assert [len(features) for features in found] == [count, count]
    assert found[0].descriptors.shape == (count, 128)


def test_options_reach_the_score() -> None:
    raw = torch.randn(1, 128, 12, 12) * torch.linspace(0.2, 3, 12)
    results = {
        (radius, step, on): detect(raw, Options(max_keypoints=10, radius=radius, step=step, relative_on=on))[0]
        for radius, step, on in ((5, 2, "raw"), (3, 2, "raw"), (5, 1, "raw"), (5, 2, "normalized"))
    }
    default = results.pop((5, 2, "raw"))
    assert all(not np.allclose(default.scores, other.scores) for other in results.values())


def test_the_hash_is_that_of_the_weights(checkpoint: str) -> None:
    assert extractor(checkpoint, 5).weights_sha256 == weights.sha256(Path(checkpoint))


def test_detection_noise_is_that_of_a_uniform_error() -> None:
    errors = np.random.default_rng(0).uniform(-2, 2, 200_000)  # anywhere in a cell of 4 pixels
    assert Extractor.detection_noise == pytest.approx(errors.std(), rel=0.01)


def test_missing_weights_are_reported() -> None:
    with pytest.raises(WeightsError, match="neither a file nor a bundled name"):
        Extractor(Options(weights="no/such/file.pth"), CPU)
