"""Folded networks compute what they computed."""

import copy

import pytest
import torch
from torch import nn

from posfeat_hloc.networks.fuse_conv_bn import fuse_batch_norms
from posfeat_hloc.networks.l2net import L2Net
from posfeat_hloc.networks.resunet import ResUNet
from posfeat_hloc.networks.small import SmallUNet


def unlike_new(network: nn.Module) -> nn.Module:
    """Batch normalisations with statistics and factors that do something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize(
    ("network", "channels"),
    [(L2Net("hardnet"), 1), (L2Net("sosnet"), 1), (SmallUNet(), 3), (ResUNet("resnet18"), 3), (ResUNet("resnet50"), 3)],
)
def test_the_same_numbers_without_batch_norms(network: nn.Module, channels: int) -> None:
    torch.manual_seed(0)
    network = unlike_new(network)
    images = torch.rand(1, channels, 48, 64)
    folded = fuse_batch_norms(copy.deepcopy(network))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in getattr(folded, "layers", folded).modules())
    with torch.inference_mode():
        expected, found = network(images), folded(images)
    for one, other in zip(expected, found, strict=True):
        assert (one - other).abs().max() < 1e-4 * one.abs().max()
