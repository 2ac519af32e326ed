"""What training can start from."""

from pathlib import Path

import pytest
import torch

from posfeat_hloc.errors import WeightsError
from posfeat_hloc.training.dense_networks import load_initial
from posfeat_hloc.weights.loading import save_posfeat
from tests.training.scenes import network


def imagenet(folder: Path, drop: str = "") -> Path:
    """A ResNet-18 under torchvision's names, with layer4 and a classifier."""
    tensors = {}
    for name, tensor in network(3).backbone.state_dict().items():
        if name.startswith(("firstconv", "firstbn", "layer")) and not (drop and name.startswith(drop)):
            tensors[name.replace("firstconv", "conv1").replace("firstbn", "bn1")] = tensor
    tensors |= {"layer4.0.conv1.weight": torch.rand(512, 256, 3, 3), "fc.weight": torch.rand(1000, 512)}
    torch.save(tensors, folder / "resnet18.pth")
    return folder / "resnet18.pth"


def test_our_weights_come_back(tmp_path: Path) -> None:
    posfeat = network(1)
    save_posfeat(tmp_path / "a.safetensors", posfeat, "consistent")
    initial = load_initial(str(tmp_path / "a.safetensors"))
    assert (initial.backbone_name, initial.grid_alignment, initial.has_descriptors) == ("resnet18", "consistent", True)
    assert initial.tensors.keys() == posfeat.state_dict().keys()
    name = "localheader.conv2.weight"
    assert torch.equal(initial.tensors[name], posfeat.state_dict()[name].half().float())


def test_the_authors_folder_may_lack_the_head(tmp_path: Path) -> None:
    posfeat = network(2)
    torch.save({f"module.{n}": t for n, t in posfeat.backbone.state_dict().items()}, tmp_path / "backbone.pth")
    initial = load_initial(str(tmp_path))
    assert initial.has_descriptors
    assert initial.grid_alignment == "published"
    assert all(name.startswith("backbone.") for name in initial.tensors)
    torch.save(posfeat.localheader.state_dict(), tmp_path / "localheader.pth")
    assert load_initial(str(tmp_path)).tensors.keys() == posfeat.state_dict().keys()


def test_a_resnet_of_torchvision_fills_the_trunk(tmp_path: Path) -> None:
    initial = load_initial(str(imagenet(tmp_path)))
    trained = network(3).backbone.state_dict()
    assert (initial.backbone_name, initial.grid_alignment, initial.has_descriptors) == ("resnet18", None, False)
    for name in ("firstconv.weight", "firstbn.running_var", "layer1.0.bn1.weight", "layer3.1.conv2.weight"):
        assert torch.equal(initial.tensors[f"backbone.{name}"], trained[name])
    assert not any("layer4" in name or "fc" in name for name in initial.tensors)


def test_half_a_resnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet18.pth: not torchvision's resnet18; .* missing, e.g. firstbn"):
        load_initial(str(imagenet(tmp_path, drop="firstbn")))


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.rand(3)}, tmp_path / "linear.pth")
    with pytest.raises(WeightsError, match=r"linear\.pth"):
        load_initial(str(tmp_path / "linear.pth"))
    with pytest.raises(WeightsError, match="neither a file"):
        load_initial(str(tmp_path / "missing.pth"))
