"""LightGlue through this package against kornia's own calls, from files, and what it refuses."""

from functools import cache
from pathlib import Path
from typing import Any

import h5py
import kornia
import numpy as np
import pytest
import torch

from posfeat_hloc import confs, matchers, weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.features import Features
from posfeat_hloc.match_features import match
from posfeat_hloc.matchers import lightglue
from posfeat_hloc.matchers.lightglue import Matcher, Options
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.weights.conversion import identify
from posfeat_hloc.weights.kornia_networks import LIGHTGLUE_FORMS

SIZES = ((120, 80), (60, 90))
MODEL = {"name": "lightglue", "features": "disk"}


@cache
def random_lightglue(form: str) -> Any:
    """Random, but for the last layer: descriptors are compared almost as they come, so that there are matches."""
    torch.manual_seed(1)
    options = {"depth_confidence": -1, "width_confidence": -1, "filter_threshold": 0.0}
    network = kornia.feature.LightGlue(features=None, **LIGHTGLUE_FORMS[form], **options).eval()
    with torch.no_grad():
        for layer in network.transformers:
            for block in (layer.self_attn, layer.cross_attn):
                block.ffn[-1].weight.mul_(0.1)
        network.log_assignment[-1].final_proj.weight.mul_(6)
        network.log_assignment[-1].matchability.bias.fill_(3.0)
    return network


def save_random_lightglue(path: Path, form: str) -> None:
    """A file as the authors publish it for this form: DISK's has older names, XFeat's holds the extractor, too."""
    state = {n: t for n, t in random_lightglue(form).state_dict().items() if n != "confidence_thresholds"}
    if form == "disk":
        state = {old_name(name): tensor for name, tensor in state.items()}
        state |= {f"log_assignment.{i}.r": torch.zeros(1) for i in range(9)}
    if form == "xfeat":
        state = {f"matcher.{name}": tensor for name, tensor in state.items()}
        state["extractor.model.net.skip1.1.weight"] = torch.zeros(1)
    torch.save(state, path)


def old_name(name: str) -> str:
    parts = name.split(".")
    return ".".join([parts[2], parts[1], *parts[3:]]) if parts[0] == "transformers" else name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights")
    for form in LIGHTGLUE_FORMS:
        save_random_lightglue(path / f"{form}.pth", form)
    return path


def two_images(dimension: int, seed: int = 0) -> tuple[Features, Features]:
    """Features of which the first ten are seen in both images."""
    rng = np.random.default_rng(seed)
    parts = []
    common = rng.normal(size=(10, dimension))
    for (width, height), count in zip(SIZES, (25, 18), strict=True):
        descriptors = np.concatenate([common, rng.normal(size=(count - 10, dimension))])
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        keypoints = rng.uniform(-0.5, [width - 0.5, height - 0.5], (count, 2))
        columns = (keypoints, np.ones(count), descriptors.astype(np.float16))
        parts.append(Features(*(column.astype(np.float32) for column in columns)))
    return parts[0], parts[1]


def kornias(form: str, features: tuple[Features, Features]) -> tuple[Any, Any]:
    """The network called with pixels and image sizes, as its users call it."""
    images = {
        f"image{side}": {
            "keypoints": torch.from_numpy(one.keypoints.clip(0, np.array(size, np.float32) - 1))[None],
            "descriptors": torch.from_numpy(one.descriptors)[None],
            "image_size": torch.tensor([size]),
        }
        for side, (one, size) in enumerate(zip(features, SIZES, strict=True))
    }
    with torch.inference_mode():
        found = random_lightglue(form)(images)
    return found["matches0"][0].numpy(), found["matching_scores0"][0].numpy()


def options(folder: Path, form: str) -> Options:
    return Options(form, str(folder / f"{form}.pth"), depth_confidence=-1, width_confidence=-1, threshold=0.0)


@pytest.mark.parametrize("form", list(LIGHTGLUE_FORMS))
def test_early_stops_are_the_authors_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(lightglue, "load_lightglue", lambda *given: asked.append(given) or (None, ""))
    Matcher(Options(form, "weights"))
    Matcher(Options(form, "weights", depth_confidence=0.5, width_confidence=0.6, threshold=0.2))
    published = (-1, 0.95, 0.1) if form == "xfeat" else (0.95, 0.99, 0.1)
    assert [given[2:] for given in asked] == [published, (0.5, 0.6, 0.2)]


@pytest.mark.parametrize("form", list(LIGHTGLUE_FORMS))
def test_matches_are_kornias(folder: Path, form: str) -> None:
    found = two_images(LIGHTGLUE_FORMS[form]["input_dim"])
    inside = tuple(Features(f.keypoints.clip(0, np.array(s, np.float32) - 1), f.scores, f.descriptors)
                   for f, s in zip(found, SIZES, strict=True))  # fmt: skip
    expected, scores = kornias(form, found)
    assert (expected >= 0).sum() > 3
    matches = matchers.match(Matcher(options(folder, form)), *inside, sizes=SIZES)
    np.testing.assert_array_equal(matches.indices, expected)
    np.testing.assert_allclose(matches.scores, np.where(expected >= 0, scores, 0), atol=1e-5)


def test_a_pair_gives_the_same_alone_and_among_others(folder: Path) -> None:
    matcher = Matcher(options(folder, "disk"))
    pairs = []
    for seed in range(3):
        found = two_images(128, seed)
        pairs.append(
            tuple(matchers.with_places(f.descriptors, f.keypoints, s) for f, s in zip(found, SIZES, strict=True))
        )
    together = matchers.match_batch(matcher, pairs)  # type: ignore[arg-type]
    for pair, found_together in zip(pairs, together, strict=True):
        (alone,) = matchers.match_batch(matcher, [pair])  # type: ignore[list-item]
        np.testing.assert_array_equal(alone.indices, found_together.indices)


def test_places_are_fractions_of_the_longer_side() -> None:
    keypoints = np.array([[100, 50], [0, 0], [199.5, 99.5], [-0.5, 100]], np.float32)
    seen = matchers.with_places(np.ones((4, 3), np.float16), keypoints, (200, 100))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen[:, :3], 1)
    np.testing.assert_allclose(seen[:, 3:], [[0, 0], [-1, -0.5], [0.995, 0.495], [-1, 0.5]])  # clipped to the image


def test_files_are_matched_with_places(folder: Path, tmp_path: Path) -> None:
    found = two_images(128)
    with FeatureStore(tmp_path / "f.h5", confs.extractors["disk"]) as store:
        for name, one, size in zip("ab", found, SIZES, strict=True):
            store.write(name, one, size)
        store.commit()
    model = MODEL | {"weights": str(folder / "disk.pth"), "threshold": 0.0, "depth_confidence": -1}
    match({"model": model}, [("a", "b")], tmp_path / "f.h5", tmp_path / "m.h5", "cpu", progress=False)
    expected = matchers.match(matchers.create(model), *found, sizes=SIZES)
    with MatchStore(tmp_path / "m.h5") as store:
        np.testing.assert_array_equal(store.read("a", "b").indices, expected.indices)
    assert (expected.indices >= 0).sum() > 3


def test_features_it_was_not_trained_for_are_refused(folder: Path, tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "f.h5", confs.extractors["posfeat-small"]) as store:
        for name, one, size in zip("ab", two_images(128), SIZES, strict=True):
            store.write(name, one, size)
        store.commit()
    model = MODEL | {"weights": str(folder / "disk.pth")}
    with pytest.raises(
        ConfigurationError, match=r"f\.h5: this LightGlue was trained for disk, not for posfeat-small; .*NN"
    ):
        match({"model": model}, [("a", "b")], tmp_path / "f.h5", tmp_path / "m.h5", "cpu", progress=False)
    with h5py.File(tmp_path / "f.h5", "r+") as file:  # as a file of hloc: nothing is known of it
        for name in list(file.attrs):
            del file.attrs[name]
    match({"model": model}, [("a", "b")], tmp_path / "f.h5", tmp_path / "m.h5", "cpu", progress=False)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="features must be one of superpoint, disk, aliked, xfeat, not 'posfeat'"
    ):
        Matcher(Options("posfeat", str(folder / "disk.pth")))
    with pytest.raises(WeightsError, match=r"xfeat\.pth: these are not the weights of LightGlue for disk"):
        Matcher(Options("disk", str(folder / "xfeat.pth")))
    weights.save(tmp_path / "other.safetensors", {"unet.weight": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="not the weights of LightGlue for aliked"):
        Matcher(Options("aliked", str(tmp_path / "other.safetensors")))
    with pytest.raises(ConfigurationError, match="give sizes"):
        matchers.match(Matcher(options(folder, "disk")), *two_images(128))


def test_the_weights_say_what_they_are(folder: Path) -> None:
    assert identify(str(folder / "disk.pth")).name == "LightGlue for descriptors of 128 numbers"
    assert identify(str(folder / "xfeat.pth")).name == "LightGlue for descriptors of 64 numbers"


def test_confs_name_the_weights_of_their_features() -> None:
    for form in LIGHTGLUE_FORMS:
        model = confs.matchers[f"{form}+lightglue"]["model"]
        assert model == {"name": "posfeat_hloc_lightglue", "features": form, "weights": f"lightglue-{form}"}
        assert confs.module_of(confs.extractors[form]["model"]) == form
        assert model["weights"] in weights.PUBLIC
