"""Every named configuration can be built as it stands."""

from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from posfeat_hloc import confs, extractors, matchers, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.loading import save_posfeat
from tests.networks.test_l2net import calibrated_network
from tests.networks.test_resunet import calibrated_posfeat

EXTRACTORS = sorted(confs.extractors)
MATCHERS = sorted(confs.matchers)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights for either network: the confs' own may not be in a checkout."""
    folder = tmp_path_factory.mktemp("weights")
    for architecture in ("hardnet", "sosnet"):
        weights.save(folder / f"{architecture}.safetensors", calibrated_network(architecture).published(), {})
    save_posfeat(folder / "posfeat.safetensors", calibrated_posfeat(), "published")
    save_posfeat(folder / "posfeat-small.safetensors", calibrated_posfeat("small"), "consistent")
    return {path.stem: str(path) for path in folder.iterdir()}


def with_random_weights(model: dict[str, Any], checkpoints: dict[str, str]) -> dict[str, Any]:
    return model | ({"weights": checkpoints[model["weights"]]} if "weights" in model else {})


@pytest.mark.parametrize("name", EXTRACTORS)
def test_extractors_can_be_built(name: str, checkpoints: dict[str, str]) -> None:
    model = with_random_weights(confs.extractors[name]["model"], checkpoints)
    extractor: Any = extractors.create(model)
    assert asdict(extractor.options).items() >= {k: v for k, v in model.items() if k != "name"}.items()
    assert extractor.grayscale == confs.extractors[name]["preprocessing"]["grayscale"]
    used = Path(model["weights"]) if "weights" in model else None
    assert extractor.weights_sha256 == (weights.sha256(used) if used else "")


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_network_and_its_weights_agree(name: str) -> None:
    """``d2d-sosnet`` is SOSNet with SOSNet's weights, and its name says so."""
    model = confs.extractors[name]["model"]
    network = model.get("network", model.get("descriptor", model["name"]))
    if network == "rootsift":
        assert "weights" not in model
    else:
        assert model["weights"].startswith(network)
        assert network in name


@pytest.mark.parametrize("name", MATCHERS)
def test_matchers_can_be_built(name: str) -> None:
    model = confs.matchers[name]["model"]
    matcher: Any = matchers.create(model)
    assert asdict(matcher.options).items() >= {k: v for k, v in model.items() if k != "name"}.items()


@pytest.mark.parametrize("kind", ["extractors", "matchers"])
def test_options_exist(kind: str) -> None:
    for name, conf in getattr(confs, kind).items():
        module = import_module(f"posfeat_hloc.{kind}.{conf['model']['name']}")
        unknown = conf["model"].keys() - {"name"} - {field.name for field in fields(module.Options)}
        assert not unknown, name


def test_every_extractor_has_a_default_matcher() -> None:
    assert confs.default_matchers.keys() == confs.extractors.keys()
    assert set(confs.default_matchers.values()) <= confs.matchers.keys()


@pytest.mark.parametrize("kind", ["extractors", "matchers"])
def test_no_two_confs_write_to_the_same_file(kind: str) -> None:
    outputs = [conf["output"] for conf in getattr(confs, kind).values()]
    assert len(set(outputs)) == len(outputs)


def test_ratio_confs_use_the_published_threshold() -> None:
    assert confs.matchers["NN-ratio"]["model"] == {"name": "nearest", "ratio": 0.8, "ratio_sides": "both"}
    assert confs.matchers["NN-ratio-one-sided"]["model"]["ratio_sides"] == "one"
    assert matchers.create(confs.matchers["NN-mutual"]["model"]).options.mutual  # type: ignore[attr-defined]


def test_posfeat_confs_have_the_published_settings() -> None:
    def settings(name: str) -> tuple[Any, ...]:
        model = confs.extractors[f"posfeat-{name}"]["model"]
        return model["max_keypoints"], model["radius"], model["threshold"], model["quirks"]

    assert settings("hpatches") == (8192, 1, 0.9, True)
    assert settings("aachen") == (20480, 3, 0.5, True)
    assert settings("eth") == (20480, 3, 0.9, True)
    assert not confs.extractors["posfeat"]["model"]["quirks"]
    assert confs.default_matchers["posfeat-aachen"] == "NN-mutual"
    ratio = confs.matchers[confs.default_matchers["posfeat-eth"]]["model"]
    assert ratio == {"name": "nearest", "ratio": 0.75, "ratio_sides": "both"}


def test_unknown_options_and_modules_are_configuration_errors() -> None:
    with pytest.raises(ConfigurationError, match="no option nms"):
        extractors.create(confs.extractors["sift"]["model"] | {"nms": 4})
    with pytest.raises(ConfigurationError, match="'surf'"):
        extractors.create(confs.extractors["sift"]["model"] | {"name": "surf"})
    with pytest.raises(ConfigurationError, match="no option max_ratio"):
        matchers.create(confs.matchers["NN-ratio"]["model"] | {"max_ratio": 0.9})
