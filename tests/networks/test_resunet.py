"""The description network against plain functional calls driven by the names in its state dict."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.normalization import normalize_imagenet
from posfeat_hloc.networks.posfeat import KeypointHead, PoSFeat
from posfeat_hloc.networks.resunet import RESNETS, Block, ResNetShape, ResUNet, backbone_name_of
from tests.networks.test_l2net import textured_image

State = dict[str, Tensor]


def color_image(height: int, width: int, seed: int = 0) -> Tensor:
    """RGB ``(1, 3, H, W)`` in [0, 1] with texture."""
    channels = [torch.from_numpy(textured_image(height, width, 3 * seed + c)) for c in range(3)]
    return torch.stack(channels)[None]


def calibrated_posfeat(backbone_name: str = "resnet18", seed: int = 0) -> PoSFeat:
    """A copy of random weights, see below."""
    return deepcopy(_calibrated_posfeat(backbone_name, seed))


@cache
def _calibrated_posfeat(backbone_name: str, seed: int) -> PoSFeat:
    """Random weights whose BatchNorm statistics were gathered on a textured image, in evaluation mode."""
    torch.manual_seed(seed)
    network = PoSFeat(backbone_name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    if isinstance(network.localheader, KeypointHead):
        nn.init.constant_(network.localheader.relu.weight, 0.1)  # not torch's own start
    network.train()
    with torch.no_grad():
        network(color_image(64, 64, seed))
    return network.eval()


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, var = (state[f"{name}.running_{kind}"].to(x) for kind in ("mean", "var"))
    return F.batch_norm(x, mean, var, state[f"{name}.weight"].to(x), state[f"{name}.bias"].to(x), eps=1e-5)


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight, bias = state[f"{name}.weight"].to(x), state.get(f"{name}.bias")
    return F.conv2d(x, weight, None if bias is None else bias.to(x), stride, weight.shape[-1] // 2)


def unit(state: State, name: str, x: Tensor) -> Tensor:
    return F.elu(batch_norm(state, f"{name}.bn", conv(state, f"{name}.conv", x)))


def stage(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    number = 0
    while (block := f"{name}.{number}") and f"{block}.conv1.weight" in state:
        step = stride if number == 0 else 1
        deep = f"{block}.conv3.weight" in state
        y = F.relu(batch_norm(state, f"{block}.bn1", conv(state, f"{block}.conv1", x, 1 if deep else step)))
        y = batch_norm(state, f"{block}.bn2", conv(state, f"{block}.conv2", y, step if deep else 1))
        if deep:
            y = batch_norm(state, f"{block}.bn3", conv(state, f"{block}.conv3", F.relu(y)))
        if f"{block}.downsample.0.weight" in state:
            weight = state[f"{block}.downsample.0.weight"].to(x)
            x = batch_norm(state, f"{block}.downsample.1", F.conv2d(x, weight, stride=step))
        x = F.relu(x + y)
        number += 1
    assert number > 0
    return x


def join(x: Tensor, skip: Tensor) -> Tensor:
    """The skip connection is padded; left and top take the floor of half the difference."""
    dy, dx = x.shape[2] - skip.shape[2], x.shape[3] - skip.shape[3]
    return torch.cat([x, F.pad(skip, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))], dim=1)


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def maps_by_hand(state: State, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In float64: local_map, local_map_small, global_map."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    x = (images.double() - mean[:, None, None]) / std[:, None, None]
    small = F.max_pool2d(F.relu(batch_norm(state, "firstbn", conv(state, "firstconv", x, 2))), 3, 2, 1)
    first = stage(state, "layer1", small, 1)
    second = stage(state, "layer2", first, 2)
    third = stage(state, "layer3", second, 2)
    x = unit(state, "iconv3", join(unit(state, "upconv3.conv", double(third)), second))
    x = unit(state, "iconv2", join(unit(state, "upconv2.conv", double(x)), first))
    return unit(state, "conv_fine", x), small, unit(state, "conv_coarse", third)


@pytest.mark.parametrize(
    ("backbone_name", "height", "width"), [("resnet18", 48, 64), ("resnet18", 57, 50), ("resnet50", 32, 48)]
)
def test_the_network_is_its_layers_written_out(backbone_name: str, height: int, width: int) -> None:
    network, image = calibrated_posfeat(backbone_name).backbone, color_image(height, width, 2)
    expected = maps_by_hand(network.state_dict(), image)
    with torch.inference_mode():
        found = network(image)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    assert found.local_map.shape == (1, 128, -(-height // 16) * 4, -(-width // 16) * 4)
    assert found.local_map_small.shape == (1, 64, -(-height // 4), -(-width // 4))


@pytest.mark.parametrize(("backbone_name", "millions"), [("resnet50", 20.509), ("resnet18", 8.899)])
def test_parameter_count_is_the_published_one(backbone_name: str, millions: float) -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in ResUNet(backbone_name).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=5e-4)


def test_names_are_torchvisions() -> None:
    with torch.device("meta"):
        names = set(ResUNet("resnet50").state_dict())
    bn = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    block = {f"layer2.0.conv{i}.weight" for i in (1, 2, 3)} | {f"layer2.0.bn{i}.{k}" for i in (1, 2, 3) for k in bn}
    block |= {"layer2.0.downsample.0.weight"} | {f"layer2.0.downsample.1.{k}" for k in bn}
    assert {name for name in names if name.startswith("layer2.0.")} == block
    units = ("conv_coarse", "upconv3.conv", "iconv3", "upconv2.conv", "iconv2", "conv_fine")
    decoder = {f"{u}.conv.{k}" for u in units for k in ("weight", "bias")} | {f"{u}.bn.{k}" for u in units for k in bn}
    stem = {"firstconv.weight"} | {f"firstbn.{k}" for k in bn}
    assert {name for name in names if not name.startswith("layer")} == decoder | stem


@pytest.mark.parametrize("backbone_name", RESNETS)
def test_a_backbone_is_known_by_its_names(backbone_name: str) -> None:
    with torch.device("meta"):
        state = ResUNet(backbone_name).state_dict()
    assert backbone_name_of(state, len(state["layer1.0.conv1.weight"])) == backbone_name
    shorter = [name for name in state if not name.startswith(f"layer1.{RESNETS[backbone_name].blocks[0] - 1}.")]
    assert backbone_name_of(shorter, len(state["layer1.0.conv1.weight"])) is None
    assert backbone_name_of({"features.0.weight"}, 64) is None


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="'vgg16'"):
        ResUNet("vgg16")


def test_cell_i_lies_at_pixel_4i() -> None:
    """With mirror-symmetric filters the encoder of a mirrored image of 16n + 1 pixels is the mirrored encoder.

    So cells are symmetric about the middle of the image, and with 4 pixels between them cell i is at pixel 4i.
    """
    network = calibrated_posfeat().backbone.double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data + module.weight.data.flip(-1)
    image = color_image(32, 16 * 4 + 1).double()
    with torch.inference_mode():
        maps = [network.layer3(network.layer2(network.layer1(network.stem(x)))) for x in (image, image.flip(-1))]
        small = [network.stem(x) for x in (image, image.flip(-1))]
    torch.testing.assert_close(small[0], small[1].flip(-1))
    torch.testing.assert_close(maps[0], maps[1].flip(-1))
    assert small[0].shape[-1] == 17  # cells 0 to 16 at pixels 0 to 64


@pytest.mark.parametrize(("bottleneck", "stride", "reach"), [(True, 1, 1), (True, 2, 1), (False, 1, 2), (False, 2, 3)])
def test_reach_is_the_receptive_field(bottleneck: bool, stride: int, reach: int) -> None:
    block = Block(64, 64 // (4 if bottleneck else 1), stride, ResNetShape((1, 1, 1), bottleneck)).eval()
    x = torch.rand(1, 64, 24, 3, requires_grad=True)
    block(x)[0, :, 12 // stride].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
    assert (12 - rows.min(), rows.max() - 12) == (reach, reach)


def test_imagenet_colors() -> None:
    grey = normalize_imagenet(torch.tensor([0.485, 0.456, 0.406])[None, :, None, None])
    torch.testing.assert_close(grey, torch.zeros(1, 3, 1, 1))
    step = normalize_imagenet(torch.tensor([0.485 + 0.229, 0.456 - 0.224, 0.406 + 0.45])[None, :, None, None])
    torch.testing.assert_close(step.flatten(), torch.tensor([1.0, -1.0, 2.0]))
