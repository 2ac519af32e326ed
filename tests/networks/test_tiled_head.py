"""The head's second convolution before the stretching and as it is written: the same at every pixel and border."""

import pytest
import torch
from torch import Tensor

from posfeat_hloc.networks.posfeat import KeypointHead
from posfeat_hloc.networks.tiled_head import Tile, _BeforeStretching, _Direct, _ImagePart, _logits


def joined(tiles: list[Tile], height: int, width: int) -> Tensor:
    result = torch.full((height, width, 128), torch.nan)
    for rows, columns, values in tiles:
        result[rows, columns] = values
    return result


@pytest.mark.parametrize(("height", "width", "tile"), [(16, 16, 16), (48, 80, 16), (64, 36, 40)])
def test_both_ways_agree(height: int, width: int, tile: int) -> None:
    torch.manual_seed(height)
    head = KeypointHead().eval()
    x, image = torch.randn(1, 192, height // 4, width // 4), torch.rand(1, 3, height, width)
    normalisation = torch.randn(1, 64, 1, 1), torch.rand(1, 64, 1, 1) + 0.5
    with torch.inference_mode():
        direct = joined(list(_Direct(head, x, image, normalisation, tile)), height, width)
        ours = joined(list(_BeforeStretching(head, x, _ImagePart(head, image, *normalisation), tile)), height, width)
    torch.testing.assert_close(ours, direct, rtol=1e-4, atol=2e-5)


def test_logits_are_those_of_the_normalised_tiles() -> None:
    torch.manual_seed(0)
    head = KeypointHead().eval()
    values = torch.randn(8, 12, 128) * (torch.rand(128) + 0.1) * 3 + 10 * torch.randn(128)
    tiles = [Tile(slice(a, a + 4), slice(b, b + 6), values[a : a + 4, b : b + 6]) for a in (0, 4) for b in (0, 6)]
    with torch.inference_mode():
        found = _logits(head, tiles, torch.empty(8, 12))
        normalised = torch.nn.functional.instance_norm(values.permute(2, 0, 1)[None])
        expected = head.conv3(head.relu(normalised))[0, 0] - head.conv3.bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=3e-5)
