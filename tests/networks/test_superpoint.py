"""SuperPoint against plain functional calls driven by the published names, and where its cells lie."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.superpoint import OFFSET, STRIDE, SuperPoint, pixels_to_map, read_map
from posfeat_hloc.weights.loading import load_superpoint
from tests.networks.test_l2net import as_tensor, textured_image

PUBLISHED = [f"conv{n}{part}" for n in "1234" for part in "ab"] + ["convPa", "convPb", "convDa", "convDb"]


def random_superpoint(seed: int = 0) -> SuperPoint:
    """Random weights of such a size that the scores of an image spread over several orders of magnitude."""
    torch.manual_seed(seed)
    network = SuperPoint()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
    nn.init.normal_(network.convPb.weight, std=0.5)
    nn.init.normal_(network.convPb.weight[-1], std=1.5)  # some cells hold a keypoint, others do not
    nn.init.constant_(network.convPb.bias[-1:], 4)
    return network.eval()


def by_hand(state: dict[str, Tensor], image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(8h, 8w)`` and descriptors ``(256, h, w)`` in float64, cell by cell."""

    def conv(name: str, x: Tensor, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"].double(), state[f"{name}.bias"].double(), padding=padding)

    x = image.double()
    for name in PUBLISHED[:8]:
        x = conv(name, x).clamp_min(0)
        if name in ("conv1b", "conv2b", "conv3b"):
            rows, columns = (side // 2 * 2 for side in x.shape[-2:])
            x = x[..., :rows, :columns]
            x = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(dim=0)
    logits = conv("convPb", conv("convPa", x).clamp_min(0), 0)[0].numpy()
    scores = np.zeros((8 * logits.shape[1], 8 * logits.shape[2]))
    for y, x_cell in np.ndindex(logits.shape[1:]):
        cell = np.exp(logits[:, y, x_cell] - logits[:, y, x_cell].max())
        scores[8 * y : 8 * y + 8, 8 * x_cell : 8 * x_cell + 8] = (cell / cell.sum())[:64].reshape(8, 8)
    return scores, conv("convDb", conv("convDa", x).clamp_min(0), 0)[0].numpy()


@pytest.mark.parametrize(("height", "width"), [(40, 56), (45, 63), (8, 15)])
def test_the_network_by_hand(height: int, width: int) -> None:
    network, image = random_superpoint(), as_tensor(textured_image(height, width))
    with torch.inference_mode():
        maps = network(image)
        scores, descriptors = by_hand(network.state_dict(), image)
    assert maps.scores.shape == (1, height // 8 * 8, width // 8 * 8)
    np.testing.assert_allclose(maps.scores[0], scores, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(maps.descriptors[0], descriptors, rtol=1e-3, atol=1e-4)
    assert scores.max() > 20 * scores.min()


def test_the_names_are_the_published_ones() -> None:
    state = SuperPoint().state_dict()
    assert sorted(state) == sorted(f"{name}.{kind}" for name in PUBLISHED for kind in ("weight", "bias"))
    assert sum(tensor.numel() for tensor in state.values()) == 1_300_865


def test_a_checkpoint_is_loaded_whatever_its_precision(tmp_path: Path) -> None:
    network, path = random_superpoint(3), tmp_path / "superpoint_v1.pth"
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, path)
    loaded, digest = load_superpoint(str(path))
    assert digest == weights.sha256(path)
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name].half().float())


def test_other_weights_are_refused(tmp_path: Path) -> None:
    state = random_superpoint().state_dict()
    del state["convPb.bias"]
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(WeightsError, match=r"(?s)half\.pth: these are not the weights of SuperPoint .*convPb\.bias"):
        load_superpoint(str(tmp_path / "half.pth"))


def test_where_the_cells_lie() -> None:
    centres = torch.arange(5) * STRIDE + OFFSET  # the mean of the eight pixels of a cell
    assert torch.equal(centres, torch.arange(40.0).reshape(5, 8).mean(dim=1))
    cells = pixels_to_map(torch.stack([centres, centres], dim=1), (5, 5), "consistent")
    assert torch.equal(cells[:, 0], torch.arange(5.0))
    # published: x / (W / 2) - 1 runs from -1 to 1, the centres of the first and the last cell
    ends = pixels_to_map(torch.tensor([[0.0, 0.0], [80.0, 40.0]]), (5, 10), "published")
    np.testing.assert_allclose(ends, [[0, 0], [9, 4]], atol=1e-6)
    with pytest.raises(ValueError, match="published or consistent, not 'corners'"):
        pixels_to_map(centres, (5, 5), "corners")


def test_descriptors_are_normalised_before_and_after_reading() -> None:
    torch.manual_seed(0)
    dense = torch.randn(256, 4, 5) * torch.tensor([1.0, 5, 1, 1, 9])
    unit = dense / dense.norm(dim=0)
    read = read_map(dense, torch.tensor([[3.5, 11.5], [7.5, 11.5], [500.0, 11.5]]))
    np.testing.assert_allclose(read[0], unit[:, 1, 0], atol=1e-5)
    between = (unit[:, 1, 0] + unit[:, 1, 1]) / 2
    np.testing.assert_allclose(read[1], between / between.norm(), atol=1e-5)
    np.testing.assert_allclose(read[2], unit[:, 1, 4], atol=1e-5)
