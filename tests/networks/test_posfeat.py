"""The keypoint head against its layers written out from the published names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.posfeat import KeypointHead
from tests.networks.test_resunet import State, calibrated_posfeat, color_image, conv


def instance_norm(x: Tensor) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()


def scores_by_hand(state: State, local_map: Tensor, small: Tensor, images: Tensor) -> Tensor:
    slope = state["relu.weight"].double()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    colors = (images.double() - mean[:, None, None]) / std[:, None, None]

    def prelu(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, slope * x)

    x = prelu(instance_norm(conv(state, "conv1", torch.cat([local_map, small], 1).double())))
    x = F.interpolate(x, images.shape[-2:], mode="bilinear", align_corners=False)
    x = torch.cat([x, instance_norm(conv(state, "convimg", colors))], 1)
    x = instance_norm(conv(state, "conv3", prelu(instance_norm(conv(state, "conv2", x)))))
    return torch.log1p(x.exp())[:, 0]


def test_the_head_is_its_layers_written_out() -> None:
    head = calibrated_posfeat().localheader
    torch.manual_seed(0)
    local_map, small = torch.randn(2, 128, 7, 9), torch.rand(2, 64, 7, 9)
    images = torch.cat([color_image(27, 35, seed) for seed in (1, 2)])  # no multiple of the map's size
    with torch.inference_mode():
        found = head(local_map, small, images)
    expected = scores_by_hand(head.state_dict(), local_map, small, images)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_names_and_size_are_the_published_ones() -> None:
    head = KeypointHead()
    names = {f"{layer}.{kind}" for layer in ("conv1", "conv2", "conv3", "convimg") for kind in ("weight", "bias")}
    assert set(head.state_dict()) == names | {"relu.weight"}
    assert sum(parameter.numel() for parameter in head.parameters()) == 628_930  # "0.63 M"
    assert head.relu.weight.numel() == 1


def test_gradients_reach_every_parameter() -> None:
    head = KeypointHead()
    scores = head(torch.randn(1, 128, 4, 4), torch.rand(1, 64, 4, 4), torch.rand(1, 3, 16, 16))
    (scores * torch.rand_like(scores)).sum().backward()
    biases_before_a_norm = {"conv1.bias", "conv2.bias", "conv3.bias", "convimg.bias"}
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None
        if name not in biases_before_a_norm:  # the norm removes what these add
            assert parameter.grad.abs().max() > 1e-6, name


def test_maps_of_an_odd_image_are_refused() -> None:
    network = calibrated_posfeat()
    with pytest.raises(ValueError, match="multiples of 16"):
        network(color_image(40, 48))
