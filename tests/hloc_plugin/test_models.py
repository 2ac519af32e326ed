"""The thin classes for hloc: what goes in and what comes out, beside our own functions and slow computations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

import posfeat_hloc
from posfeat_hloc import confs, extractors, weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.retrieval import describe_images, vlad
from posfeat_hloc.stores import GlobalDescriptorStore
from posfeat_hloc.weights.loading import save_posfeat
from tests.conftest import Texture
from tests.fake_hloc import fake_hloc  # noqa: F401
from tests.networks.test_l2net import calibrated_network

Load = Callable[[dict[str, Any]], Any]


@pytest.fixture
def load(fake_hloc: Callable[..., ModuleType]) -> Load:  # noqa: F811
    """``load({"name": ..., option: value})`` builds a model as hloc does."""
    fake_hloc()
    posfeat_hloc.register()
    base = import_module("hloc.utils.base_model")

    def build(model: dict[str, Any]) -> Any:
        kind = "matchers" if model["name"] in ("nearest", "dual_softmax") else "extractors"
        return base.dynamic_load(import_module(f"hloc.{kind}"), model["name"])(model).eval()

    return build


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    weights.save(folder / "hardnet.safetensors", calibrated_network("hardnet").published(), {})
    torch.manual_seed(0)
    save_posfeat(folder / "posfeat.safetensors", PoSFeat("small"), "consistent")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.mark.parametrize("model", [
    {"name": "sift", "max_keypoints": 100},
    {"name": "d2d", "weights": "hardnet", "max_keypoints": 100, "precision": "fp32"},
    {"name": "posfeat", "weights": "posfeat", "threshold": 0.0, "reproduce_official": False, "precision": "fp32"},
])  # fmt: skip
def test_an_extractor_gives_what_ours_gives(
    load: Load, texture: Texture, checkpoints: dict[str, str], model: dict[str, Any]
) -> None:
    model = model | ({"weights": checkpoints[model["weights"]]} if "weights" in model else {})
    image = torch.tensor(texture(width=96, height=80))[None, None].float() / 255
    image = image.expand(-1, 3, -1, -1) if model["name"] == "posfeat" else image
    expected = extractors.create(model)(image)[0]
    assert len(expected) > 20
    built = load(model)
    found = built({"image": image})
    assert {key: len(value) for key, value in found.items()} == {"keypoints": 1, "scores": 1, "descriptors": 1}
    assert found["keypoints"][0].dtype == torch.float64
    assert_array_equal(found["keypoints"][0], expected.keypoints)
    assert_array_equal(found["scores"][0], expected.scores)
    assert_array_equal(found["descriptors"][0], expected.descriptors.T)
    assert found["scores"][0].dtype == found["descriptors"][0].dtype == torch.float32
    assert built.detection_noise == extractors.create(model).detection_noise


def test_an_image_without_features_and_a_batch(load: Load, texture: Texture) -> None:
    images = torch.stack([torch.zeros(1, 60, 80), torch.tensor(texture(width=80, height=60))[None].float() / 255])
    found = load({"name": "sift"})({"image": images})
    assert [len(keypoints) > 0 for keypoints in found["keypoints"]] == [False, True]
    empty = {key: tuple(value[0].shape) for key, value in found.items()}
    assert empty == {"keypoints": (0, 2), "scores": (0,), "descriptors": (128, 0)}
    alone = load({"name": "sift"})({"image": images[1:]})
    assert all(torch.equal(found[key][1], alone[key][0]) for key in found)


def test_the_wrong_kind_of_image_is_said(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="sift takes images of 1 channels, not 3; set grayscale to True"):
        load({"name": "sift"})({"image": torch.zeros(1, 3, 40, 40)})


def test_what_is_wrong_with_a_conf_is_said_before_the_first_image(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="d2d has no option nms"):
        load({"name": "d2d", "nms": 3})
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        load({"name": "posfeat", "weights": str(tmp_path / "gone.safetensors")})
    with pytest.raises(ConfigurationError, match="nearest has no option do_mutual_check"):
        load({"name": "nearest", "do_mutual_check": True})


def unit(rng: np.random.Generator, count: int, dimension: int = 8) -> np.ndarray:
    values = rng.normal(size=(count, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "m"), [(7, 9), (9, 7), (1, 1), (1, 5), (5, 1), (6, 0), (0, 6), (0, 0)])
def test_matches_are_those_of_a_slow_search(load: Load, n: int, m: int) -> None:
    rng = np.random.default_rng(10 * n + m)
    d0, d1 = unit(rng, n), unit(rng, m)
    expected = np.full(n, -1)
    for i in range(n):
        for j in range(m):
            row, column = [d0[i] @ d1[k] for k in range(m)], [d0[k] @ d1[j] for k in range(n)]
            if np.argmax(row) == j and np.argmax(column) == i:
                expected[i] = j
    data = {"descriptors0": torch.from_numpy(d0.T)[None], "descriptors1": torch.from_numpy(d1.T)[None]}
    found = load({"name": "nearest"})(data | {"image0": torch.empty(1, 1, 5, 5)})
    assert_array_equal(found["matches0"], expected[None])
    scores = [(1 + d0[i] @ d1[j]) / 2 if j >= 0 else 0 for i, j in enumerate(expected)]
    assert found["matching_scores0"].shape == (1, n)  # hloc's own matcher gives (1, D) where an image is empty
    np.testing.assert_allclose(found["matching_scores0"][0], scores, atol=1e-6)
    half = load({"name": "nearest"})({key: value.half() for key, value in data.items()})
    assert half["matching_scores0"].dtype == torch.float32


def test_options_of_a_matcher_are_used(load: Load) -> None:
    d0 = torch.tensor([[[1.0], [0.0]]])
    d1 = torch.tensor([[[1.0, 0.96], [0.0, 0.28]]])  # distances 0 and 0.28
    assert load({"name": "nearest"})({"descriptors0": d1[..., 1:], "descriptors1": d0})["matches0"].tolist() == [[0]]
    near = load({"name": "nearest", "max_distance": 0.2})
    assert near({"descriptors0": d0, "descriptors1": d1})["matches0"].tolist() == [[0]]
    assert near({"descriptors0": d1[..., 1:], "descriptors1": d0})["matches0"].tolist() == [[-1]]
    probability = load({"name": "dual_softmax"})({"descriptors0": d0, "descriptors1": d1})["matching_scores0"]
    assert probability.item() == pytest.approx(1 / (1 + np.exp(60 * (0.96 - 1))), rel=1e-5)


def test_indices_that_hloc_cannot_write_are_left_out_with_a_warning(load: Load) -> None:
    count = 32770
    angles = torch.linspace(0, 3, count, dtype=torch.float64)
    d1 = torch.stack([angles.cos(), angles.sin()])[None].float()
    picked = [5, 32767, 32768, 32769]
    far_apart = torch.eye(len(picked))  # exact and far apart, so that rounding decides nothing
    d0 = torch.cat([torch.zeros(2, 4), far_apart])[None]
    d1 = torch.cat([d1 * 0.5, torch.zeros(1, 4, count)], dim=1)
    for row, index in enumerate(picked):
        d1[0, :, index] = d0[0, :, row]
    model = load({"name": "nearest"})
    with pytest.warns(UserWarning, match="2 matches to keypoints beyond 32767 were left out: hloc stores 16 bits"):
        found = model({"descriptors0": d0, "descriptors1": d1})
    assert found["matches0"].tolist() == [[5, 32767, -1, -1]]
    assert found["matching_scores0"].tolist() == [[1, 1, 0, 0]]
    assert found["matches0"].short().tolist() == found["matches0"].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model({"descriptors0": d0[..., :2], "descriptors1": d1})


def words_of(folder: Path) -> torch.Tensor:
    conf = confs.retrieval["vlad-hardnet"]
    describe_images({**conf, "model": conf["model"] | {"clusters": 4}}, folder, folder / "g.h5", progress=False)
    with GlobalDescriptorStore(folder / "g.h5") as store:
        assert store.vocabulary is not None
        return torch.from_numpy(store.vocabulary)


@pytest.fixture
def photos(tmp_path: Path, texture: Texture) -> Path:
    for seed in range(3):
        Image.fromarray(texture(seed, 96, 72)).save(tmp_path / f"{seed}.png")
    return tmp_path


@pytest.mark.parametrize("source", ["", "g.h5"])
def test_a_global_descriptor_is_ours_with_words_of_a_folder_or_a_file(
    load: Load, texture: Texture, photos: Path, source: str
) -> None:
    words = words_of(photos)
    images = torch.tensor(np.stack([texture(seed, 96, 72) for seed in (5, 6)]))[:, None].float() / 255
    expected = vlad.Extractor(vlad.Options(clusters=4), torch.device("cpu"))
    expected.vocabulary = words
    found = load({"name": "vlad", "clusters": 4, "vocabulary": str(photos / source)})({"image": images})
    assert found.keys() == {"global_descriptor"}
    assert_array_equal(found["global_descriptor"], torch.stack([expected(image) for image in images]))


def test_a_global_descriptor_says_what_it_lacks(load: Load, photos: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs visual words"):
        load({"name": "vlad"})
    with GlobalDescriptorStore(photos / "others.h5", {}) as store:
        store.commit()
    with pytest.raises(ConfigurationError, match="holds no visual words"):
        load({"name": "vlad", "vocabulary": str(photos / "others.h5")})
    model = load({"name": "vlad", "clusters": 4, "vocabulary": str(photos)})
    with pytest.raises(ConfigurationError, match="20x20 pixels is too small"):
        model({"image": torch.zeros(1, 1, 20, 20)})
    with pytest.raises(ConfigurationError, match="takes images of 1 channels"):
        model({"image": torch.zeros(1, 3, 80, 80)})
