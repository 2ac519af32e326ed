"""Checkpoints of CAPS's own code: names as in its repository, beside optimiser and scheduler."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.conversion import identify
from posfeat_hloc.weights.loading import load_caps
from tests.networks.test_resunet import calibrated_posfeat

NAMES = (
    "net.firstconv.weight", "net.firstbn.running_mean", "net.layer1.0.conv1.weight", "net.layer1.0.bn1.weight",
    "net.layer2.0.downsample.0.weight", "net.layer3.1.bn2.num_batches_tracked", "net.conv_coarse.conv.weight",
    "net.conv_coarse.bn.bias", "net.upconv3.conv.conv.weight", "net.upconv3.conv.bn.running_var",
    "net.iconv3.conv.bias", "net.upconv2.conv.conv.bias", "net.iconv2.bn.weight", "net.conv_fine.conv.weight",
)  # fmt: skip
"""Some of those that the modules of its repository give."""


def published_state() -> dict[str, Tensor]:
    return {f"net.{name}": tensor for name, tensor in calibrated_posfeat(seed=5).backbone.state_dict().items()}


def test_a_training_checkpoint_loads(tmp_path: Path) -> None:
    state = published_state()
    assert state.keys() >= set(NAMES)
    assert {name.split(".")[1] for name in state} == {name.split(".")[1] for name in NAMES}
    path = tmp_path / "caps-pretrained.pth"
    scheduler = {"step_size": 80000, "gamma": 0.5, "base_lrs": [1e-4], "last_epoch": 3}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save({"step": 3, "state_dict": state, "optimizer": optimizer, "scheduler": scheduler}, path)
    network, _ = load_caps(str(path))
    assert network.backbone_name == "resnet18"
    assert not network.training
    found = network.state_dict()
    assert all(torch.equal(found[name.removeprefix("net.")], tensor) for name, tensor in state.items())
    identity = identify(str(path))
    assert (identity.architecture, identity.name) == ("caps", "CAPS")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="CAPS's weights do not come with this package"):
        load_caps("caps")
    state = published_state()
    bare = {name.removeprefix("net."): tensor for name, tensor in state.items()}
    for name, wrong in {"posfeat": bare, "more": state | {"head.weight": torch.zeros(1)}}.items():
        torch.save(wrong, tmp_path / f"{name}.pth")
        with pytest.raises(WeightsError, match="not the weights of CAPS"):
            load_caps(str(tmp_path / f"{name}.pth"))
    del state["net.iconv3.conv.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"not the weights of CAPS on resnet18 (?s:.*)iconv3"):
        load_caps(str(tmp_path / "less.pth"))
