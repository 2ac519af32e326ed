"""Strips give what the whole gives, however narrow they are."""

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from posfeat_hloc.networks import interpolation
from posfeat_hloc.networks.interpolation import upsampled_rows
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.resunet import ResUNet
from posfeat_hloc.networks.tiled_head import in_tiles, moments
from posfeat_hloc.networks.tiled_inference import describe, score
from tests.networks.test_resunet import calibrated_posfeat, color_image

NARROW = 1  # byte: tiles are as narrow as they get, eight rows
WIDE = 1 << 40


@pytest.mark.parametrize(("backbone_name", "height"), [("resnet18", 112), ("resnet50", 96), ("resnet34", 64)])
def test_strips_give_the_map_and_the_scores_of_the_whole(backbone_name: str, height: int) -> None:
    network, image = calibrated_posfeat(backbone_name), color_image(height, 32, 1)
    with torch.inference_mode():
        maps = network.backbone(image)
        scores = network.localheader(maps.local_map, maps.local_map_small, image)[0]
        for memory in (NARROW, WIDE):
            local_map, small = describe(network.backbone, image, memory)
            torch.testing.assert_close(local_map, maps.local_map, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(small, maps.local_map_small, rtol=1e-4, atol=1e-5)
            found = score(network.localheader, local_map, small, image, memory)
            torch.testing.assert_close(found, scores, rtol=1e-4, atol=2e-5)


def test_other_sizes_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="multiples of 16, not 40x32"):
        describe(ResUNet("resnet18"), torch.zeros(1, 3, 32, 40), WIDE)


@pytest.mark.parametrize("align_corners", [True, False])
@settings(deadline=None, max_examples=30)
@given(h=st.integers(1, 9), w=st.integers(1, 6), factor=st.sampled_from([2, 4]), data=st.data())
def test_rows_of_the_stretched_map(align_corners: bool, h: int, w: int, factor: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, h * factor - 1))
    high = data.draw(st.integers(low + 1, h * factor))
    x = torch.randn(1, 3, h, w)
    whole = F.interpolate(x, size=(h * factor, w * factor), mode="bilinear", align_corners=align_corners)
    found = upsampled_rows(x, low, high, (h * factor, w * factor), align_corners)
    torch.testing.assert_close(found, whole[:, :, low:high], rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 20), rows=st.integers(1, 8), step=st.sampled_from([1, 2, 4]), extra=st.integers(0, 2))
def test_a_strip_sees_what_it_depends_on(height: int, rows: int, step: int, extra: int) -> None:
    x, kernel = torch.randn(1, 1, height * step, 3), torch.randn(1, 1, 5, 1)
    halo = -(-2 // step) * step + extra * step
    whole = F.conv2d(x, kernel, stride=(step, 1), padding=(2, 0))
    found = in_tiles(
        lambda a, b: F.conv2d(x[:, :, a:b], kernel, stride=(step, 1), padding=(2, 0)), height, rows, halo, step
    )
    torch.testing.assert_close(found, whole)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 20), rows=st.integers(1, 8), offset=st.sampled_from([0.0, 3000.0]))
def test_moments_of_strips_are_those_of_the_whole(height: int, rows: int, offset: float) -> None:
    x = torch.randn(1, 4, height, 7) * torch.tensor([0.1, 1, 5, 0])[:, None, None] + offset
    mean, scale = moments(lambda a, b: x[:, :, a:b], height, rows)
    exact = x.double()
    torch.testing.assert_close(mean[0, :, 0, 0], exact.mean((0, 2, 3)).float())
    deviation = (exact.var((0, 2, 3), correction=0) + 1e-5).sqrt().float()
    torch.testing.assert_close(1 / scale[0, :, 0, 0], deviation, rtol=1e-2 if offset else 1e-5, atol=1e-6)


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all tensors alive but the weights; on the meta device nothing is computed or allocated."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor) or (key := tensor.untyped_storage()._cdata) in self.weights:
                continue
            if key not in self.alive:
                self.alive[key] = tensor.untyped_storage().nbytes()
                weakref.finalize(tensor.untyped_storage(), self.alive.pop, key)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def test_memory_is_that_of_the_maps_and_one_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    """110 bytes a pixel and the tile: 2.7 GB for 5472 x 3648 pixels in tiles of 512 MiB."""
    monkeypatch.setattr(interpolation, "TILE", (32, 128))  # fewer steps
    height, width, tile = 64, 2048, 64 << 20
    with torch.device("meta"), torch.no_grad():
        network = PoSFeat("resnet50").eval()
        with PeakBytes(network) as tiles:
            image = torch.empty(1, 3, height, width)
            maps = describe(network.backbone, image, tile)
            describing, tiles.peak = tiles.peak, 0
            score(network.localheader, *maps, image, tile)
        del maps
        with PeakBytes(network) as whole:
            network(torch.empty(1, 3, height, width))
    pixels = height * width
    assert max(describing, tiles.peak) < 110 * pixels + tile
    assert whole.peak > 1000 * pixels
