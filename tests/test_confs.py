"""Every named configuration can be built as it stands."""

import hashlib
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from posfeat_hloc import confs, extractors, matchers, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.weights.loading import save_posfeat
from tests.extractors.peers import KORNIA_HAS_PEERS, WITHOUT_PEERS, save_random_aliked, save_random_xfeat
from tests.extractors.test_disk import save_random_disk
from tests.matchers.test_lightglue import save_random_lightglue
from tests.networks.test_d2net import random_d2net
from tests.networks.test_l2net import calibrated_network
from tests.networks.test_resunet import calibrated_posfeat
from tests.networks.test_superpoint import random_superpoint

EXTRACTORS = sorted(confs.extractors)
MATCHERS = sorted(confs.matchers)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights for each network: the confs' own may not be in a checkout."""
    folder = tmp_path_factory.mktemp("weights")
    for architecture in ("hardnet", "sosnet"):
        weights.save(folder / f"{architecture}.safetensors", calibrated_network(architecture).published(), {})
    save_posfeat(folder / "posfeat.safetensors", calibrated_posfeat(), "published")
    save_posfeat(folder / "posfeat-small.safetensors", calibrated_posfeat("small"), "consistent")
    weights.save(folder / "superpoint.safetensors", random_superpoint().state_dict(), {})
    weights.save(folder / "d2net.safetensors", random_d2net().state_dict(), {})
    save_random_disk(folder / "disk-depth.pth")
    if KORNIA_HAS_PEERS:
        save_random_aliked(folder / "aliked-n16.pth")
        save_random_xfeat(folder / "xfeat.pt")
    caps = calibrated_posfeat().backbone.state_dict()
    weights.save(folder / "caps.safetensors", {f"net.{name}": tensor for name, tensor in caps.items()}, {})
    return {path.stem: str(path) for path in folder.iterdir()}


def with_random_weights(model: dict[str, Any], checkpoints: dict[str, str]) -> dict[str, Any]:
    model = model | ({"weights": checkpoints[model["weights"]]} if "weights" in model else {})
    return model | ({"keypoints": with_random_weights(model["keypoints"], checkpoints)} if "keypoints" in model else {})


@pytest.mark.parametrize("name", EXTRACTORS)
def test_extractors_can_be_built(name: str, checkpoints: dict[str, str]) -> None:
    if name in ("aliked", "xfeat") and not KORNIA_HAS_PEERS:
        pytest.skip(WITHOUT_PEERS)
    model = with_random_weights(confs.extractors[name]["model"], checkpoints)
    extractor: Any = extractors.create(model)
    assert asdict(extractor.options).items() >= {k: v for k, v in model.items() if k != "name"}.items()
    assert extractor.grayscale == confs.extractors[name]["preprocessing"]["grayscale"]
    used = [weights.sha256(Path(part["weights"])) for part in (model.get("keypoints", {}), model) if "weights" in part]
    expected = hashlib.sha256("".join(used).encode()).hexdigest() if len(used) == 2 else "".join(used)
    assert extractor.weights_sha256 == expected


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_network_and_its_weights_agree(name: str) -> None:
    """``d2d-sosnet`` is SOSNet with SOSNet's weights, and its name says so."""
    model = confs.extractors[name]["model"]
    network = model.get("network", model.get("descriptor", confs.module_of(model)))
    if network == "rootsift":
        assert "weights" not in model
    else:
        assert model["weights"].startswith(network)
        assert network in name


@pytest.mark.parametrize("kind", ["extractors", "matchers"])
def test_weights_are_known_by_their_names(kind: str) -> None:
    """But for those that users get themselves."""
    for name, conf in getattr(confs, kind).items():
        used = [part["weights"] for part in (conf["model"], conf["model"].get("keypoints", {})) if "weights" in part]
        assert set(used) <= weights.BUNDLED.keys() | weights.PUBLIC.keys() | {"d2net", "caps"}, name


@pytest.mark.parametrize("name", MATCHERS)
def test_matchers_can_be_built(name: str, tmp_path: Path) -> None:
    model = confs.matchers[name]["model"]
    if "weights" in model:
        save_random_lightglue(tmp_path / "weights.pth", model["features"])
        model = model | {"weights": str(tmp_path / "weights.pth")}
    matcher: Any = matchers.create(model)
    assert asdict(matcher.options).items() >= {k: v for k, v in model.items() if k != "name"}.items()


@pytest.mark.parametrize("kind", ["extractors", "matchers"])
def test_options_exist(kind: str) -> None:
    for name, conf in getattr(confs, kind).items():
        module = import_module(f"posfeat_hloc.{kind}.{confs.module_of(conf['model'])}")
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
        return model["max_keypoints"], model["radius"], model["threshold"], model["reproduce_official"]

    assert settings("hpatches") == (8192, 1, 0.9, True)
    assert settings("aachen") == (20480, 3, 0.5, True)
    assert settings("eth") == (20480, 3, 0.9, True)
    assert not confs.extractors["posfeat"]["model"]["reproduce_official"]
    assert confs.default_matchers["posfeat-aachen"] == "NN-mutual"
    ratio = confs.matchers[confs.default_matchers["posfeat-eth"]]["model"]
    assert ratio == {"name": "nearest", "ratio": 0.75, "ratio_sides": "both"}


def test_superpoint_and_d2net_have_their_authors_settings() -> None:
    superpoint, with_d2d = (confs.extractors[f"{name}superpoint"]["model"] for name in ("", "d2d-"))
    assert (superpoint["threshold"], superpoint["nms_radius"], superpoint["d2d"]) == (0.015, 4, "off")
    assert {key: value for key, value in with_d2d.items() if key != "d2d"}.items() <= superpoint.items()
    assert with_d2d["d2d"] != "off"
    scales = {name: confs.extractors[name]["model"]["scales"] for name in ("d2net", "d2net-ms", "d2d-d2net")}
    assert scales == {"d2net": [1], "d2net-ms": [0.5, 1, 2], "d2d-d2net": [1]}
    assert confs.extractors["d2d-d2net"]["model"] == confs.extractors["d2net"]["model"] | {"d2d": True}


def test_confs_share_no_dicts() -> None:
    """Commands change the options of a conf; no other conf may change with it."""
    models = [conf["model"] for conf in confs.extractors.values()]
    models += [model["keypoints"] for model in models if "keypoints" in model]
    assert len({id(model) for model in models}) == len(models)


def test_unknown_options_and_modules_are_configuration_errors() -> None:
    with pytest.raises(ConfigurationError, match="no option nms"):
        extractors.create(confs.extractors["sift"]["model"] | {"nms": 4})
    with pytest.raises(ConfigurationError, match="'surf'"):
        extractors.create(confs.extractors["sift"]["model"] | {"name": "surf"})
    with pytest.raises(ConfigurationError, match="no option max_ratio"):
        matchers.create(confs.matchers["NN-ratio"]["model"] | {"max_ratio": 0.9})


def test_stored_features_do_not_tell_how_hloc_is_told_apart() -> None:
    """Feature files hold plain names, and are known by either."""
    for name in ("disk", "superpoint", "d2net"):
        model = confs.extractors[name]["model"]
        assert model["name"] == f"posfeat_hloc_{name}"
        assert confs.module_of(model) == name
        assert confs.name_of({"model": model | {"name": name}}) == confs.name_of({"model": model}) == name
