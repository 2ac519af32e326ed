"""Checkpoints in the authors' layouts load; everything else is refused with a reason."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights import files
from posfeat_hloc.weights.loading import load_l2net
from tests.networks.test_l2net import as_tensor, calibrated_network, textured_image

architectures = pytest.mark.parametrize("architecture", ["hardnet", "sosnet"])
prefixes = pytest.mark.parametrize("prefix", ["", "module."])


def published_layout(architecture: str, prefix: str = "", batch_counts: bool = True) -> dict[str, Any]:
    """What the authors' training scripts wrote: HardNet beside an epoch, SOSNet the bare state dict."""
    state = OrderedDict(
        (prefix + name, tensor)
        for name, tensor in calibrated_network(architecture, seed=3).published().items()
        if batch_counts or not name.endswith("num_batches_tracked")
    )
    return {"epoch": 9, "state_dict": state} if architecture == "hardnet" else state


def same_descriptors(architecture: str, path: Path) -> bool:
    image = as_tensor(textured_image(64, 72, seed=3))
    with torch.inference_mode():
        expected = calibrated_network(architecture, seed=3)(image)
        return torch.equal(load_l2net(architecture, str(path))[0](image), expected)


@architectures
@prefixes
@pytest.mark.parametrize("batch_counts", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_published_layouts(tmp_path: Path, architecture: str, prefix: str, batch_counts: bool, zipped: bool) -> None:
    path = tmp_path / "checkpoint.pth"
    content = published_layout(architecture, prefix, batch_counts)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)  # PyTorch before 1.6 did not zip
    assert same_descriptors(architecture, path)


@architectures
def test_names_in_the_file_are_the_published_ones(architecture: str) -> None:
    content = published_layout(architecture)
    names = [name for name in content.get("state_dict", content) if name.endswith("weight")]
    first, stem = (0, "features") if architecture == "hardnet" else (1, "layers")
    assert names == [f"{stem}.{first + n}.weight" for n in (0, 3, 6, 9, 12, 15, 19)]


def test_the_network_is_in_evaluation_mode_and_the_digest_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(published_layout("hardnet"), path)
    network, digest = load_l2net("hardnet", str(path))
    assert not any(module.training for module in network.modules())
    assert digest == weights.sha256(path)


def test_metadata_sets_the_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    weights.save(path, calibrated_network().published(), {"window": "17", "eps": "0.01"})
    network, _ = load_l2net("hardnet", str(path))
    assert (network.window, network.eps) == (17, 0.01)
    network, _ = load_l2net("hardnet", str(path), window=9, eps=0.5)
    assert (network.window, network.eps) == (9, 0.5)


def test_without_metadata_the_normalisation_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(published_layout("hardnet"), path)
    network, _ = load_l2net("hardnet", str(path))
    assert (network.window, network.eps) == (33, 1e-7)


@pytest.mark.parametrize(("saved", "asked"), [("hardnet", "sosnet"), ("sosnet", "hardnet")])
def test_weights_of_the_other_network_are_refused(tmp_path: Path, saved: str, asked: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(published_layout(saved), path)
    with pytest.raises(WeightsError, match=f"checkpoint.pth: these are not the weights of {asked}"):
        load_l2net(asked, str(path))


def without_last_convolution(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "features.19.weight"}


def with_a_wider_layer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(state) | {"features.0.weight": torch.zeros(64, 1, 3, 3)}


@pytest.mark.parametrize("damage", [without_last_convolution, with_a_wider_layer])
def test_incomplete_weights_are_refused(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(damage(published_layout("hardnet")["state_dict"]), path)
    with pytest.raises(WeightsError, match="not the weights of hardnet"):
        load_l2net("hardnet", str(path))


class Hostile:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    marker, path = tmp_path / "executed", tmp_path / "hostile.pth"
    content = published_layout("hardnet") | {"optimizer": Hostile(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"hostile\.pth: not a checkpoint of plain tensors"):
        load_l2net("hardnet", str(path))
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file was hostile indeed


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that ships one file of weights under the name ``mine``."""
    path = tmp_path / "mine.safetensors"
    digest = weights.save(path, calibrated_network().published(), {"window": "21"})
    monkeypatch.setattr(files, "weights_folder", lambda: tmp_path)
    with patch.dict(weights.BUNDLED, {"mine": weights.Bundled("mine.safetensors", digest)}, clear=True):
        yield path


def test_bundled_weights_load_by_name(bundled: Path) -> None:
    network, digest = load_l2net("hardnet", "mine")
    assert digest == weights.BUNDLED["mine"].sha256
    assert network.window == 21


def test_altered_bundled_weights_are_refused(bundled: Path) -> None:
    content = bytearray(bundled.read_bytes())
    content[-100] ^= 1
    bundled.write_bytes(content)
    with pytest.raises(WeightsError, match=r"mine.safetensors: bundled weights were altered"):
        load_l2net("hardnet", "mine")


def test_missing_bundled_weights_say_so(bundled: Path) -> None:
    bundled.unlink()
    with pytest.raises(WeightsError, match="bundled weights are missing"):
        load_l2net("hardnet", "mine")
