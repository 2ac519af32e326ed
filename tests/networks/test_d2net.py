"""D2-Net against plain functional calls driven by the published names."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.d2net import D2Net, map_to_pixels, pixels_to_map, read_map, resize_map
from posfeat_hloc.weights.loading import load_d2net
from tests.networks.test_resunet import color_image

LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)  # of the sequence that the names number; the others have no weights
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512)


def random_d2net(seed: int = 0) -> D2Net:
    """Random weights that keep the size of an image's values."""
    torch.manual_seed(seed)
    network = D2Net()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def by_hand(state: dict[str, Tensor], image: Tensor) -> Tensor:
    red, green, blue = image.double()[0] * 255
    x = torch.stack([blue - 103.939, green - 116.779, red - 123.68])[None]
    for i, layer in enumerate(LAYERS):
        name = f"dense_feature_extraction.model.{layer}"
        dilation = 2 if i >= 7 else 1
        weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
        x = F.conv2d(x, weight, bias, padding=dilation, dilation=dilation).clamp_min(0)
        if i in (1, 3):
            rows, columns = (side // 2 * 2 for side in x.shape[-2:])
            x = x[..., :rows, :columns]
            x = torch.stack([x[..., a::2, b::2] for a in (0, 1) for b in (0, 1)]).amax(dim=0)
        if i == 6:
            x = (x[..., 1:, 1:] + x[..., :-1, 1:] + x[..., 1:, :-1] + x[..., :-1, :-1]) / 4
    return x


@pytest.mark.parametrize(("height", "width"), [(24, 36), (27, 33), (8, 8)])
def test_the_network_by_hand(height: int, width: int) -> None:
    network, image = random_d2net(), color_image(height, width, 1)
    with torch.inference_mode():
        dense = network(image)
        expected = by_hand(network.state_dict(), image)
    assert dense.shape == (1, 512, height // 4 - 1, width // 4 - 1)
    np.testing.assert_allclose(dense, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert 0.2 < (expected > 0).double().mean() < 0.8


def test_the_names_are_the_published_ones() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in D2Net().state_dict().items()}
    expected = {}
    for layer, inputs, outputs in zip(LAYERS, WIDTHS[:-1], WIDTHS[1:], strict=True):
        expected[f"dense_feature_extraction.model.{layer}.weight"] = (outputs, inputs, 3, 3)
        expected[f"dense_feature_extraction.model.{layer}.bias"] = (outputs,)
    assert shapes == expected


def test_a_training_checkpoint_with_its_command_line(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in random_d2net().state_dict().items()}
    torch.save({"model": state, "args": Namespace(lr=1e-3), "epoch_idx": 3}, tmp_path / "d2_tf.pth")
    if not hasattr(torch.serialization, "safe_globals"):
        pytest.skip("torch before 2.5 cannot be told which classes are harmless")
    loaded, _ = load_d2net(str(tmp_path / "d2_tf.pth"))
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in loaded.state_dict().items())


def test_where_to_get_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"dusmanu\.com/files/d2-net/d2_tf\.pth and give it as weights"):
        load_d2net("d2net")
    torch.save({"model": {"conv1a.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: these are not the weights of D2-Net"):
        load_d2net(str(tmp_path / "other.pth"))


def test_where_the_cells_lie() -> None:
    """Two poolings by two: the middle of two is 2p + 0.5, twice."""
    cells = torch.tensor([[0.0, 1.0], [2.5, 7.0]])
    assert torch.equal(map_to_pixels(cells), (cells * 2 + 0.5) * 2 + 0.5)
    assert torch.equal(pixels_to_map(map_to_pixels(cells)), cells)


def test_reading_and_resizing() -> None:
    torch.manual_seed(0)
    dense = torch.rand(512, 4, 5)
    read = read_map(dense, torch.tensor([[5.5, 9.5], [5.5, 11.5]]))
    middle = (dense[:, 2, 1] + dense[:, 3, 1]) / 2
    np.testing.assert_allclose(read[0], dense[:, 2, 1] / dense[:, 2, 1].norm(), atol=1e-5)
    np.testing.assert_allclose(read[1], middle / middle.norm(), atol=1e-5)
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    np.testing.assert_allclose(resize_map(ramp, 7, 9)[0, 0, 3], np.arange(9) / 2, atol=1e-6)
