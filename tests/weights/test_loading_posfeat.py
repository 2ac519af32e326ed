"""PoSFeat's checkpoints load in the published layout and in ours; anything else is refused with a reason."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat
from tests.networks.test_resunet import calibrated_posfeat

State = dict[str, Tensor]


def states(prefix: str = "") -> dict[str, State]:
    network = calibrated_posfeat(seed=3)
    return {
        part: {prefix + name: tensor for name, tensor in getattr(network, part).state_dict().items()}
        for part in ("backbone", "localheader")
    }


def published(folder: Path, parts: dict[str, State]) -> Path:
    folder.mkdir(exist_ok=True)
    for part, state in parts.items():
        torch.save(state, folder / f"{part}.pth")
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "ours.safetensors"
    save_posfeat(path, calibrated_posfeat(seed=3), "consistent", {"steps": "5"})
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_folder(tmp_path: Path, prefix: str) -> None:
    loaded = load_posfeat(str(published(tmp_path / "keypoint", states(prefix))), backbone_name="resnet18")
    expected = states()
    assert loaded.localheader is not None
    for network, part in ((loaded.backbone, "backbone"), (loaded.localheader, "localheader")):
        found = network.state_dict()
        assert found.keys() == expected[part].keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected[part].items())
        assert not any(module.training for module in network.modules())
    assert loaded.grid_alignment == "published"


def test_our_file(ours: Path) -> None:
    loaded = load_posfeat(str(ours))
    expected = states()["backbone"]
    found = loaded.backbone.state_dict()
    assert all(torch.equal(found[n], t.half().float()) for n, t in expected.items() if t.is_floating_point())
    assert (loaded.backbone.backbone_name, loaded.grid_alignment, loaded.sha256) == (
        "resnet18",
        "consistent",
        weights.sha256(ours),
    )
    stored = weights.load(str(ours)).metadata
    assert stored == {"architecture": "posfeat", "backbone": "resnet18", "grid_alignment": "consistent", "steps": "5"}


def test_without_metadata_the_convention_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    weights.save(path, calibrated_posfeat().state_dict(), {})
    assert load_posfeat(str(path)).grid_alignment == "published"
    weights.save(path, calibrated_posfeat().state_dict(), {"grid_alignment": "centred"})
    with pytest.raises(WeightsError, match=r"bare\.safetensors: unknown grid alignment 'centred'"):
        load_posfeat(str(path))
    with pytest.raises(ValueError, match="not 'centred'"):
        save_posfeat(path, calibrated_posfeat(), "centred")


def test_the_hash_of_a_folder_changes_with_either_file(tmp_path: Path) -> None:
    folder, parts = tmp_path / "keypoint", states()
    digests = {load_posfeat(str(published(folder, parts))).sha256}
    for part in parts:
        first = next(iter(parts[part]))
        parts[part][first] = parts[part][first] + 1
        digests.add(load_posfeat(str(published(folder, parts))).sha256)
    assert len(digests) == 3


@pytest.mark.parametrize("part", ["backbone", "localheader"])
def test_half_a_checkpoint_is_refused(tmp_path: Path, ours: Path, part: str) -> None:
    folder = published(tmp_path / "half", {k: v for k, v in states().items() if k != part})
    with pytest.raises(WeightsError, match=rf"half: holds no {part}\.pth"):
        load_posfeat(str(folder))
    path = tmp_path / "half.safetensors"
    kept = {n: t for n, t in weights.load(str(ours)).tensors.items() if not n.startswith(part)}
    weights.save(path, kept, {})
    with pytest.raises(WeightsError, match=rf"half\.safetensors: holds no tensors named {part}\.\*"):
        load_posfeat(str(path))


def test_descriptors_alone_need_no_head(tmp_path: Path, ours: Path) -> None:
    folder = published(tmp_path / "descriptor", {"backbone": states()["backbone"]})
    for source in (folder, ours):
        loaded = load_posfeat(str(source), with_head=False)
        assert loaded.localheader is None
        assert loaded.backbone.backbone_name == "resnet18"


def test_one_file_of_a_folder_is_not_enough(tmp_path: Path) -> None:
    folder = published(tmp_path / "keypoint", states())
    with pytest.raises(WeightsError, match=r"backbone\.pth: holds no tensors named backbone.*the file \(or folder\)"):
        load_posfeat(str(folder / "backbone.pth"))


def test_another_trunk_is_refused(ours: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"ours\.safetensors: these are the weights of a resnet18, not of a resnet50"
    ):
        load_posfeat(str(ours), backbone_name="resnet50")


@pytest.mark.parametrize("missing", ["iconv2.conv.weight", "layer2.1.conv2.weight", "firstbn.running_mean"])
def test_missing_layers_are_refused(tmp_path: Path, missing: str) -> None:
    parts = states()
    del parts["backbone"][missing]
    with pytest.raises(WeightsError, match=rf"not the weights of PoSFeat's backbone on resnet18 .*\n?.*{missing}"):
        load_posfeat(str(published(tmp_path / "keypoint", parts)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    parts = states()
    parts["localheader"]["conv1.weight"] = torch.zeros(192, 128, 3, 3)
    with pytest.raises(WeightsError, match="not the weights of PoSFeat's keypoint head"):
        load_posfeat(str(published(tmp_path / "a", parts)))
    parts["backbone"] = {"features.0.weight": torch.zeros(32, 1, 3, 3)}
    with pytest.raises(WeightsError, match="not a backbone of PoSFeat"):
        load_posfeat(str(published(tmp_path / "b", parts)))


def test_missing_weights_are_said() -> None:
    with pytest.raises(WeightsError, match="'no/such/folder': neither a file"):
        load_posfeat("no/such/folder")
