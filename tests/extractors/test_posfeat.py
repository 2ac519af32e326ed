"""The PoSFeat extractor against its pieces, on images of all sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posfeat_hloc.detection.peaks import find_peaks, refine
from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors.posfeat import Extractor, Options, crop, pad
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import has_fast_bf16
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.weights import sha256
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat
from tests.networks.test_resunet import calibrated_posfeat, color_image

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_posfeat(path, calibrated_posfeat(), "consistent")
    return str(path)


@pytest.fixture(scope="module")
def network(checkpoint: str) -> PoSFeat:
    loaded, result = load_posfeat(checkpoint), PoSFeat("resnet18")
    assert loaded.localheader is not None
    result.backbone, result.localheader = loaded.backbone, loaded.localheader
    return result.eval()


def extractor(checkpoint: str, **options: object) -> Extractor:
    return Extractor(Options(**({"weights": checkpoint, "precision": "fp32"} | options)), CPU)  # type: ignore[arg-type]


def assert_close(found: Features, expected: Features) -> None:
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1e-4)


@pytest.mark.parametrize("reproduce_official", [True, False])
@pytest.mark.parametrize("memory", [0, 512])
def test_features_are_made_of_the_pieces(
    checkpoint: str, network: PoSFeat, reproduce_official: bool, memory: int
) -> None:
    image = color_image(70, 57, 1)
    height, width = (64, 48) if reproduce_official else (70, 57)
    found = extractor(checkpoint, reproduce_official=reproduce_official, radius=2, threshold=0.6, memory=memory)(image)[
        0
    ]
    if reproduce_official:
        seen = image[..., :64, :48]
    else:
        rows, columns = torch.arange(80).clamp_max(69), torch.arange(64).clamp_max(56)
        seen = image[..., rows[:, None], columns]
    with torch.inference_mode():
        local_map, scores = network(seen)
    scores = scores[0, :height, :width]
    keypoints, values = refine(scores, find_peaks(scores, 2, 0.6, 8192, reproduce_official))
    descriptors = read_descriptors(local_map[0], keypoints, "consistent")
    assert_close(found, Features(keypoints.numpy(), values.numpy(), descriptors.numpy()))
    assert len(found) > 30


def test_the_whole_image_is_covered_only_without_quirks(checkpoint: str) -> None:
    image = color_image(63, 79, 2)
    whole, cut = (extractor(checkpoint, reproduce_official=q, threshold=0.0)(image)[0].keypoints for q in (False, True))
    assert (whole.max(axis=0) > [75, 59]).all()
    assert (whole.max(axis=0) <= [78, 62]).all()
    assert (cut.max(axis=0) <= [63, 47]).all()
    assert (cut.max(axis=0) > [59, 43]).all()


def test_multiples_of_16_are_neither_cut_nor_padded(checkpoint: str) -> None:
    image = color_image(80, 96, 3)
    assert crop(image).shape == pad(image).shape == image.shape
    whole, cut = (extractor(checkpoint, reproduce_official=q, threshold=0.0, radius=1)(image)[0] for q in (False, True))
    # radius 1: reflection changes nothing; without quirks pixels lose to the ring, too
    pairs = {tuple(k): s for k, s in zip(cut.keypoints.round(3).tolist(), cut.scores, strict=True)}
    assert {tuple(k) for k in whole.keypoints.round(3).tolist()} <= pairs.keys()
    assert len(whole) > 0.9 * len(cut)


def test_images_of_a_batch_do_not_mix(checkpoint: str) -> None:
    images = torch.cat([color_image(50, 40, seed) for seed in (1, 2)])
    extract = extractor(checkpoint)
    for image, together in zip(images, extract(images), strict=True):
        alone = extract(image[None])[0]
        np.testing.assert_array_equal(together.keypoints, alone.keypoints)
        np.testing.assert_array_equal(together.descriptors, alone.descriptors)


def test_flat_images_are_filled_up_only_with_quirks(checkpoint: str) -> None:
    flat = torch.full((1, 3, 48, 48), 0.5)
    options = {"threshold": 50.0, "max_keypoints": 10, "min_contrast": 0.0}
    assert len(extractor(checkpoint, reproduce_official=False, **options)(flat)[0]) == 0
    filled = extractor(checkpoint, reproduce_official=True, **options)(flat)[0]
    assert len(filled) == 128
    assert np.isfinite(filled.descriptors).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 40), (15, 90)])
def test_tiny_images(checkpoint: str, height: int, width: int) -> None:
    image = torch.rand(1, 3, height, width)
    none = extractor(checkpoint, reproduce_official=True)(image)[0]
    assert none.descriptors.shape == (0, 128)
    some = extractor(checkpoint, reproduce_official=False, threshold=0.0)(image)[0]
    assert (len(some) > 0) == (min(height, width) >= 3)


def test_summits_are_nearer_to_blobs_than_means(checkpoint: str) -> None:
    image = color_image(64, 64, 6)
    means, refine_quadratic = (
        extractor(checkpoint, subpixel=s, threshold=0.6)(image)[0] for s in ("mean", "quadratic")
    )
    assert len(means) == len(refine_quadratic)
    moved = [np.abs(found.keypoints - found.keypoints.round()).mean() for found in (means, refine_quadratic)]
    assert moved[1] > 2 * moved[0]  # the mean of nearly equal scores stays on the pixel


def test_the_convention_is_the_weights_unless_told(checkpoint: str) -> None:
    image = color_image(48, 48, 4)
    found = {c: extractor(checkpoint, grid_alignment=c)(image)[0] for c in (None, "consistent", "published")}
    np.testing.assert_array_equal(found[None].descriptors, found["consistent"].descriptors)
    np.testing.assert_array_equal(found[None].keypoints, found["published"].keypoints)
    assert np.abs(found[None].descriptors - found["published"].descriptors).max() > 0.01


def test_senseless_options_are_refused(checkpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="radius must be 1 to 13, not 0"):
        extractor(checkpoint, radius=0)
    with pytest.raises(ConfigurationError, match="mean or quadratic, not 'best'"):
        extractor(checkpoint, subpixel="best")
    with pytest.raises(ConfigurationError, match="published or consistent, not 'pixel'"):
        extractor(checkpoint, grid_alignment="pixel")


def test_the_extractor_says_what_it_is(checkpoint: str) -> None:
    extract = extractor(checkpoint)
    assert not extract.grayscale
    assert extract.weights_sha256 == sha256(Path(checkpoint))


@pytest.mark.skipif(not has_fast_bf16(CPU), reason="no bf16 hardware: precision 'auto' computes in fp32 here")
def test_bf16_keeps_scores_and_descriptors(checkpoint: str) -> None:
    image: Tensor = color_image(112, 112, 5)
    full, half = (extractor(checkpoint, precision=p, radius=3, threshold=0.9)(image)[0] for p in ("fp32", "bf16"))
    distance = np.linalg.norm(full.keypoints[:, None] - half.keypoints[None], axis=2)
    near = distance.min(axis=1) < 0.5
    assert near.mean() > 0.9
    cosines = (full.descriptors[near] * half.descriptors[distance.argmin(axis=1)[near]]).sum(axis=1)
    assert cosines.min() > 0.99
    assert not np.array_equal(full.scores[:10], half.scores[:10])  # the two did take different paths


@pytest.mark.skipif(not has_fast_bf16(CPU), reason="no bf16 hardware: precision 'auto' computes in fp32 here")
def test_bf16_finds_the_matches_of_fp32(checkpoint: str) -> None:
    """Two views of one image, twelve pixels apart: at least nine of ten matches are the same, to half a pixel."""
    wide = color_image(112, 124, 6)
    views = wide[..., :112], wide[..., 12:]
    matched = []
    for precision in ("fp32", "bf16"):
        extract = extractor(checkpoint, precision=precision, radius=3, threshold=0.9, reproduce_official=False)
        first, second = (extract(view)[0] for view in views)
        best = (first.descriptors @ second.descriptors.T).argmax(axis=1)
        back = (first.descriptors @ second.descriptors.T).argmax(axis=0)
        mutual = back[best] == np.arange(len(first))
        matched.append(np.hstack([first.keypoints, second.keypoints[best]])[mutual])
    assert len(matched[0]) > 20
    distance = np.abs(matched[0][:, None] - matched[1][None]).max(axis=2)
    assert (distance.min(axis=1) < 0.5).mean() > 0.9
