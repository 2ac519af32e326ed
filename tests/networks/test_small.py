"""The light form of both networks: tiles, coordinates, curvature, cost."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import SmallHead, SmallUNet, enlarge, log_curvatures, standardise
from posfeat_hloc.networks.tiled_inference import describe, score
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat
from tests.networks.test_resunet import calibrated_posfeat, color_image


def calibrated() -> PoSFeat:
    """Random weights in evaluation mode."""
    return calibrated_posfeat("small")


@pytest.mark.parametrize("memory", [1, 20 << 20])
def test_strips_give_the_map_and_the_scores_of_the_whole(memory: int) -> None:
    network, image = calibrated(), color_image(672, 48, 1)
    with torch.inference_mode():
        maps = network.backbone(image)
        scores = network.localheader(maps.local_map, maps.local_map_small, image)[0]
        local_map, small = describe(network.backbone, image, memory)
        found = score(network.localheader, local_map, small, image, memory)
    torch.testing.assert_close(local_map, maps.local_map, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(small, maps.local_map_small, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, scores, rtol=1e-4, atol=2e-5)


def test_cells_lie_where_the_consistent_convention_says() -> None:
    """Pictures that are shifted by 16 pixels have maps that are shifted by 4 cells, away from the borders."""
    network = calibrated().backbone
    assert isinstance(network, SmallUNet)
    grey = standardise(color_image(432, 48 + 400))
    with torch.inference_mode():
        whole, cut = network.maps(grey), network.maps(grey[:, :, 16:, 16:])
    for a, b in zip(whole[:2], cut[:2], strict=True):
        inner = slice(45, 60)
        torch.testing.assert_close(a[:, :, 4:, 4:][:, :, inner, inner], b[:, :, inner, inner], rtol=1e-3, atol=1e-4)


def test_the_mirror_image_of_a_symmetric_network_has_the_mirrored_map() -> None:
    """With kernels made symmetric, an image with 16 n + 1 columns and its mirror image agree: cells are centred."""
    torch.manual_seed(1)
    network = SmallUNet().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data += module.weight.data.flip(3)
    x = torch.randn(1, 1, 32, 513)
    line = torch.cat([x, x[..., -1:].expand(-1, -1, -1, 15)], dim=3)
    mirrored = torch.cat([x.flip(3), x[..., :1].expand(-1, -1, -1, 15)], dim=3)
    with torch.inference_mode():
        a, b = network.maps(line).local_map, network.maps(mirrored).local_map
    inner = slice(45, 84)  # of cells 0 to 128, whose middle is 64
    torch.testing.assert_close(a[..., :129].flip(3)[..., inner], b[..., inner], rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(h=st.integers(2, 6), w=st.integers(2, 6), times=st.sampled_from([2, 4]))
def test_enlarging_keeps_cells_at_their_multiples(h: int, w: int, times: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    found = enlarge((3 * rows - 2 * columns)[None, None], times)[0, 0]
    y = (torch.arange(h * times) / times).clamp_max(h - 1)
    x = (torch.arange(w * times) / times).clamp_max(w - 1)
    torch.testing.assert_close(found, 3 * y[:, None] - 2 * x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("deviation", [3.0, 5.0])
def test_the_curvature_at_the_middle_of_a_blob(deviation: float) -> None:
    """Smoothing by variance v leaves amplitude d^2/(d^2+v) and I_xx = I_yy = amplitude/(d^2+v) at the middle."""
    rows, columns = np.mgrid[:81, :81] - 40.0
    blob = torch.tensor(np.exp(-(rows**2 + columns**2) / (2 * deviation**2)), dtype=torch.float32)[None, None]
    found = log_curvatures(blob)[0, :, 40, 40].exp()
    for variance, value in zip((2.0, 10.0), found.tolist(), strict=True):
        second = deviation**2 / (deviation**2 + variance) ** 2
        assert value == pytest.approx((variance * second) ** 2, rel=0.1)  # finite differences


def test_flat_pictures_and_edges_have_no_curvature() -> None:
    edge = torch.zeros(1, 1, 40, 40)
    edge[..., 20:] = 1
    for image in (torch.full((1, 1, 40, 40), 0.3), edge):
        torch.testing.assert_close(log_curvatures(image), torch.full((1, 2, 40, 40), float(np.log(1e-5))))


def test_exposure_does_not_change_the_descriptors() -> None:
    image = color_image(64, 80)
    with torch.inference_mode():
        bright, dark = (calibrated().backbone(x).local_map for x in (image, 0.4 * image + 0.1))
    assert nn.functional.cosine_similarity(bright, dark, dim=1).min() > 0.999


def test_an_untrained_head_finds_blobs() -> None:
    """Curvature is built in, so that training need not discover it from chance."""
    torch.manual_seed(0)
    head = SmallHead().eval()
    rows, columns = np.mgrid[:64, :64]
    image = np.exp(-((rows - 30) ** 2 + (columns - 41) ** 2) / 8.0)
    with torch.inference_mode():
        images = torch.tensor(image, dtype=torch.float32).expand(1, 3, -1, -1)
        scores = head(torch.randn(1, 128, 16, 16), torch.randn(1, 64, 16, 16), images)[0]
    best = int(scores.argmax())
    assert abs(best // 64 - 30) <= 1
    assert abs(best % 64 - 41) <= 1


def test_operations_are_a_thirteenth_of_the_paper_s() -> None:
    counts = {}
    with torch.device("meta"), torch.no_grad():
        for backbone_name in ("small", "resnet50"):
            with FlopCounterMode(display=False) as counter:
                PoSFeat(backbone_name).eval()(torch.empty(1, 3, 480, 640))
            counts[backbone_name] = counter.get_total_flops()
    assert 13 * counts["small"] < counts["resnet50"]


def test_weights_are_saved_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    digest = save_posfeat(path, calibrated(), "consistent")
    loaded = load_posfeat(str(path))
    assert (loaded.backbone.backbone_name, loaded.grid_alignment, loaded.sha256) == ("small", "consistent", digest)
    for name, tensor in calibrated().backbone.state_dict().items():
        torch.testing.assert_close(loaded.backbone.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert isinstance(loaded.localheader, SmallHead)
    with pytest.raises(WeightsError, match="weights of a small, not of a resnet50"):
        load_posfeat(str(path), "resnet50")


def test_sides_that_are_no_multiples_of_16_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="multiples of 16, not 40x32"):
        SmallUNet()(torch.zeros(1, 3, 32, 40))
