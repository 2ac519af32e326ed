"""L2Net against convolutions written out, kornia's patch networks and the published geometry."""

import cv2
import kornia.feature as KF
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.l2net import MIN_SIZE, L2Net, map_to_pixels, pixels_to_map, read_map
from posfeat_hloc.networks.normalization import normalize_locally

STRIDES = (1, 1, 2, 1, 2, 1, 1)
CHANNELS = (1, 32, 32, 64, 64, 128, 128, 128)
KERNELS = (3, 3, 3, 3, 3, 3, 8)

architectures = pytest.mark.parametrize("architecture", ["hardnet", "sosnet"])


def textured_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Grey ``(H, W)`` float32 in [0, 1] with texture at all scales and sharp edges."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for sigma in (1, 2, 4, 8, 16):
        layer = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), sigma)
        image += layer / layer.std()
        shapes = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), 2 * sigma)
        image += (shapes > 0.5 * shapes.std()).astype(np.float32)
    return np.clip((image - image.mean()) / (6 * image.std()) + 0.5, 0, 1).astype(np.float32)


def calibrated_network(architecture: str = "hardnet", seed: int = 0, window: int = 33, eps: float = 1e-7) -> L2Net:
    """Random weights whose BatchNorm statistics were gathered on a textured image, in evaluation mode."""
    torch.manual_seed(seed)
    network = L2Net(architecture, window, eps)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average over the calls below
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(textured_image(96, 96, seed))[None, None])
    return network.eval()


def as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image)[None, None]


def layers_by_hand(state: dict[str, Tensor], x: Tensor, padding: int) -> Tensor:
    """The seven layers in float64, from nothing but the published names and the specification."""
    convolutions = [name for name in state if name.endswith(".weight")]
    assert len(convolutions) == 7
    x = x.double()
    for i, name in enumerate(convolutions):
        prefix, number, _ = name.split(".")
        x = F.conv2d(x, state[name].double(), stride=STRIDES[i], padding=padding if i < 6 else 0)
        mean = state[f"{prefix}.{int(number) + 1}.running_mean"].double()[:, None, None]
        variance = state[f"{prefix}.{int(number) + 1}.running_var"].double()[:, None, None]
        x = (x - mean) / (variance + 1e-5).sqrt()
        if i < 6:
            x = x.clamp_min(0)
    return x


@architectures
def test_parameter_count_is_the_published_one(architecture: str) -> None:
    expected = sum(k * k * i * o for k, i, o in zip(KERNELS, CHANNELS[:-1], CHANNELS[1:], strict=True))
    count = sum(parameter.numel() for parameter in L2Net(architecture).parameters())
    assert count == expected == 1_334_560  # "1.33 M"


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'tfeat'"):
        L2Net("tfeat")


@settings(deadline=None, max_examples=20)
@given(height=st.integers(MIN_SIZE, 80), width=st.integers(MIN_SIZE, 80))
def test_size_of_the_dense_map(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = L2Net().eval()
    with torch.inference_mode():
        result = network(torch.rand(2, 1, height, width))
    assert result.shape == (2, 128, -(-height // 4) - 7, -(-width // 4) - 7)


@architectures
def test_receptive_field(architecture: str) -> None:
    network = L2Net(architecture).eval()
    for parameter in network.parameters():
        parameter.data.abs_().add_(1e-3)  # with positive weights and inputs no ReLU hides a path
    cell_x, cell_y = 9, 7
    normalized = torch.rand(1, 1, 96, 112) + 0.5
    normalized.requires_grad_(True)
    network.layers(normalized)[0, :, cell_y, cell_x].sum().backward()
    touched = (normalized.grad[0, 0] != 0).numpy()
    expected = np.zeros((96, 112), bool)
    centre_x, centre_y = 4 * cell_x + 14, 4 * cell_y + 14
    expected[centre_y - 25 : centre_y + 26, centre_x - 25 : centre_x + 26] = True
    np.testing.assert_array_equal(touched, expected)


@architectures
def test_dense_map_equals_convolutions_written_out(architecture: str) -> None:
    network = calibrated_network(architecture)
    image = as_tensor(textured_image(75, 94, seed=1))
    with torch.inference_mode():
        result = network(image)
        expected = layers_by_hand(network.published(), normalize_locally(image), padding=1)
    assert result.shape == expected.shape
    torch.testing.assert_close(result.double(), expected, rtol=1e-3, atol=1e-4)


@architectures
@pytest.mark.parametrize("cell", [(3, 3), (8, 5), (12, 9)])
def test_a_cell_is_the_network_on_its_51_pixels(architecture: str, cell: tuple[int, int]) -> None:
    network = calibrated_network(architecture)
    image = as_tensor(textured_image(103, 120, seed=2))
    centre_x, centre_y = 4 * cell[0] + 14, 4 * cell[1] + 14
    normalized = normalize_locally(image)
    window = normalized[:, :, centre_y - 25 : centre_y + 26, centre_x - 25 : centre_x + 26]
    with torch.inference_mode():
        expected = layers_by_hand(network.published(), window, padding=0)
        result = network(image)[:, :, cell[1], cell[0]]
    assert expected.shape == (1, 128, 1, 1)
    torch.testing.assert_close(result.double(), expected[..., 0, 0], rtol=1e-3, atol=1e-4)


def test_window_and_eps_reach_the_normalisation() -> None:
    network = calibrated_network(window=17, eps=0.02)
    image = as_tensor(textured_image(64, 64, seed=3))
    with torch.inference_mode():
        expected = layers_by_hand(network.published(), normalize_locally(image, 17, 0.02), padding=1)
        torch.testing.assert_close(network(image).double(), expected, rtol=1e-3, atol=1e-4)


@architectures
def test_patches_are_described_as_by_kornia(architecture: str) -> None:
    network = calibrated_network(architecture)
    reference = KF.HardNet(pretrained=False) if architecture == "hardnet" else KF.SOSNet(pretrained=False)
    reference.load_state_dict(network.published())
    image = textured_image(160, 160, seed=4)
    patches = torch.from_numpy(np.stack([image[i : i + 32, 2 * i : 2 * i + 32] for i in range(0, 64, 5)]))[:, None]
    with torch.inference_mode():
        result = F.normalize(network.describe_patches(patches), dim=1)
        expected = reference.eval()(patches)
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)
    assert (expected @ expected.T).fill_diagonal_(0).max() < 0.99  # the patches do differ


def test_published_weights_make_the_same_network() -> None:
    first, second = calibrated_network(seed=5), calibrated_network(seed=6)
    image = as_tensor(textured_image(60, 60, seed=5))
    with torch.inference_mode():
        assert not torch.allclose(first(image), second(image), atol=0.1)
        second.load_published(first.published())
        torch.testing.assert_close(first(image), second(image), rtol=0, atol=0)


def test_cells_and_pixels() -> None:
    cells = torch.tensor([[0.0, 0.0], [3.0, 10.0], [0.5, 2.25]])
    pixels = torch.tensor([[14.0, 14.0], [26.0, 54.0], [16.0, 23.0]])
    assert torch.equal(map_to_pixels(cells), pixels)
    assert torch.equal(pixels_to_map(pixels), cells)


def bilinear_by_hand(dense: np.ndarray, x: float, y: float) -> np.ndarray:
    """The unit descriptor of a ``(D, h, w)`` map at pixel (x, y), border cells repeated."""
    height, width = dense.shape[1:]
    column, row = np.clip((x - 14) / 4, 0, width - 1), np.clip((y - 14) / 4, 0, height - 1)
    left, top = int(column), int(row)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = column - left, row - top
    value = (1 - b) * ((1 - a) * dense[:, top, left] + a * dense[:, top, right])
    value = value + b * ((1 - a) * dense[:, bottom, left] + a * dense[:, bottom, right])
    return np.asarray(value / np.linalg.norm(value))


@pytest.mark.parametrize(("height", "width"), [(9, 12), (1, 6), (5, 1), (1, 1)])
def test_maps_are_read_bilinearly(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 16, height, width)).astype(np.float32)
    # inside, on cells, and beyond all borders of the map
    pixels = [rng.uniform(-10, [4 * width + 40, 4 * height + 40], (25, 2)).astype(np.float32) for _ in maps]
    pixels[0][:2] = [[14, 14], [4 * width + 10, 4 * height + 10]]
    result = read_map(torch.from_numpy(maps), [torch.from_numpy(xy) for xy in pixels]).numpy()
    expected = [bilinear_by_hand(dense, *place) for dense, xy in zip(maps, pixels, strict=True) for place in xy]
    np.testing.assert_allclose(result, expected, atol=1e-4)
