"""The D2D extractor: the best cells of the dense map, in pixels, with their descriptors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posfeat_hloc import weights
from posfeat_hloc.detection.hessian import hessian_determinant, peaks
from posfeat_hloc.errors import ConfigurationError, WeightsError
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


def interpolated(dense: np.ndarray, x: float, y: float) -> np.ndarray:
    """A ``(D, h, w)`` map at a fractional cell inside it."""
    left, top = min(int(x), dense.shape[2] - 2), min(int(y), dense.shape[1] - 2)
    across, down = np.array([1 - (x - left), x - left]), np.array([1 - (y - top), y - top])
    return np.einsum("dyx,y,x->d", dense[:, top : top + 2, left : left + 2].astype(np.float64), down, across)


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


def test_peaks_are_ranked_by_saliency_and_described_where_they_are(checkpoint: str) -> None:
    image = as_tensor(textured_image(110, 131, seed=6))
    found = extractor(checkpoint, 80, positions="hessian", sigmas=(2.0,), peak_power=0.5)(image)[0]
    with torch.inference_mode():
        network = L2Net("hardnet", 17, 0.001).eval()
        network.load_published(weights.load(checkpoint).tensors)
        raw = network(image)[0].numpy()
    positions, strength = peaks(hessian_determinant(image, 2.0)[0], 2)
    cells = (positions.double().numpy() - 14) / 4
    inside = ((cells >= 0) & (cells <= [raw.shape[2] - 1, raw.shape[1] - 1])).all(axis=1)
    positions, strength, cells = positions[inside], strength[inside].numpy(), cells[inside]
    salient = np.array([interpolated(saliency(raw)[None], x, y)[0] for x, y in cells])
    order = np.argsort(-salient * np.sqrt(strength))[:80]
    assert len(strength) > 80
    np.testing.assert_allclose(found.keypoints, positions.numpy()[order], atol=1e-5)
    np.testing.assert_allclose(found.scores, (salient * np.sqrt(strength))[order], rtol=1e-3)
    described = np.array([interpolated(raw, x, y) for x, y in cells[order]])
    np.testing.assert_allclose(
        found.descriptors, described / np.linalg.norm(described, axis=1, keepdims=True), atol=1e-4
    )


def test_coarse_peaks_join_the_fine_ones_where_these_leave_room(checkpoint: str) -> None:
    image = as_tensor(textured_image(110, 131, seed=6))
    fine, coarse, both = (
        {
            (x, y)
            for x, y in extractor(checkpoint, EVERY_CELL, positions="hessian", sigmas=sigmas)(image)[
                0
            ].keypoints.tolist()
        }
        for sigmas in ((1.5,), (3.0,), (1.5, 3.0))
    )
    apart = {
        (x, y) for x, y in coarse if all(max(abs(round(x) - round(a)), abs(round(y) - round(b))) > 1 for a, b in fine)
    }
    assert both >= fine
    assert both - fine <= coarse
    assert apart <= both
    assert len(apart) < len(coarse)


def test_peaks_follow_a_shift_of_half_a_cell(checkpoint: str) -> None:
    """A shift of 2 px moves peaks by 2 px; cells of the grid can only move by 0 or 4."""
    scene = textured_image(208, 224, seed=3)
    extract = extractor(checkpoint, 300, positions="hessian")
    left, right = (extract(as_tensor(scene[:, start : start + 220]))[0] for start in (0, 2))
    moved = left.keypoints - np.array([2, 0], np.float32)
    inner = ((moved > 60) & (moved < [160, 150])).all(axis=1)
    distances = np.linalg.norm(moved[inner][:, None] - right.keypoints[None], axis=2).min(axis=1)
    assert inner.sum() > 40
    assert np.mean(distances < 0.01) > 0.85  # the others were not among the best 300


def test_the_best_of_several_scales_are_kept(checkpoint: str) -> None:
    image = as_tensor(textured_image(120, 140, seed=7))
    half = torch.nn.functional.interpolate(image, (60, 70), mode="bilinear", antialias=True)
    alone, small = extractor(checkpoint, 40)(image)[0], extractor(checkpoint, 40)(half)[0]
    both = extractor(checkpoint, 40, scales=(1.0, 0.5))(image)[0]
    scores = np.concatenate([alone.scores, small.scores])
    keypoints = np.concatenate([alone.keypoints, (small.keypoints + 0.5) * 2 - 0.5])
    best = np.argsort(-scores)[:40]
    np.testing.assert_allclose(both.scores, scores[best], rtol=1e-5)
    np.testing.assert_allclose(both.keypoints, keypoints[best], atol=1e-4)
    assert len(np.unique(best >= 40)) == 2


@pytest.mark.parametrize(
    "options", [{"positions": "corner"}, {"terms": "none"}, {"scales": ()}, {"scales": (1.0, 0.0)}, {"sigmas": ()}]
)
def test_wrong_options_are_refused(checkpoint: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Extractor(Options(weights=checkpoint, **options), CPU)


def test_flat_and_tiny_images_have_no_peaks(checkpoint: str) -> None:
    extract = extractor(checkpoint, 100, positions="hessian")
    for image in (torch.full((2, 1, 64, 70), 0.5), torch.rand(1, 1, 29, 29), torch.rand(1, 1, 9, 300)):
        for found in extract(image):
            assert found.descriptors.shape == (len(found), 128)
            assert len(found) == 0


def test_options_reach_the_score() -> None:
    raw = torch.randn(1, 128, 12, 12) * torch.linspace(0.2, 3, 12)
    default = detect(raw, Options(max_keypoints=10))[0]
    changes: list[dict[str, Any]] = [{"radius": 3}, {"step": 1}, {"relative_on": "normalized"}]
    changes += [{"terms": "absolute"}, {"terms": "relative"}, {"average": False}]
    results = {str(change): detect(raw, Options(max_keypoints=10, **change))[0] for change in changes}
    assert all(not np.allclose(default.scores, other.scores) for other in results.values())


def test_the_hash_is_that_of_the_weights(checkpoint: str) -> None:
    assert extractor(checkpoint, 5).weights_sha256 == weights.sha256(Path(checkpoint))


def test_detection_noise_is_that_of_a_uniform_error(checkpoint: str) -> None:
    errors = np.random.default_rng(0).uniform(-2, 2, 200_000)  # anywhere in a cell of 4 pixels
    assert extractor(checkpoint, 5).detection_noise == pytest.approx(errors.std(), rel=0.01)
    assert extractor(checkpoint, 5, positions="hessian").detection_noise < 1


def test_missing_weights_are_reported() -> None:
    with pytest.raises(WeightsError, match="neither a file nor a known name"):
        Extractor(Options(weights="no/such/file.pth"), CPU)
