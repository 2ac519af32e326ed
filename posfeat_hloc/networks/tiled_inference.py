"""PoSFeat on images of any size: the same numbers, tile by tile of rows, within bounded memory.

A tile is computed with the rows above and below that its result depends on, so that nothing is approximated. Instance
normalisation needs the moments of a whole map first; maps at full resolution are therefore computed once for the
moments and once for the result, unless memory suffices to keep them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.interpolation import UpsampledConvolution
from posfeat_hloc.networks.posfeat import KeypointHead
from posfeat_hloc.networks.resunet import MULTIPLE, STRIDE, Block, ResUNet, UpConv
from posfeat_hloc.networks.small import (
    HALO,
    HEAD_HALO,
    SMALL_CHANNELS,
    SmallHead,
    SmallUNet,
    positive,
    standardise,
    to_grey,
)
from posfeat_hloc.networks.tiled_head import Compute, in_tiles, rows_within, score_in_tiles


def describe(network: ResUNet | SmallUNet, image: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """``local_map`` and ``local_map_small`` of one image, as the network computes them.

    Args:
        network: in evaluation mode.
        image: ``(1, 3, H, W)`` RGB in [0, 1], both sides multiples of 16.
        memory: bytes for the intermediate results of one tile. The maps themselves come on top, for a
            ResNet-50 at most 110 bytes a pixel.

    Returns:
        ``(1, 128, H/4, W/4)`` float32 and ``(1, 64, H/4, W/4)``.
    """
    height, width = image.shape[-2:]
    if height % MULTIPLE or width % MULTIPLE:
        raise ValueError(f"both sides must be multiples of {MULTIPLE}, not {width}x{height}")
    h, w = height // STRIDE, width // STRIDE
    if isinstance(network, SmallUNet):
        return _describe_small(network, image, memory)

    small = in_tiles(
        lambda a, b: network.stem(image[:, :, a:b]), h, rows_within(memory, width, 4 * 80), halo=8, step=STRIDE
    )
    rows = rows_within(memory, w, 2400)
    first = network.layer1(small) if rows >= h else None
    x = _describe_eighth(network, small, first, memory)
    up = _upconv(network.upconv2, x, (h, w))

    def join(a: int, b: int) -> Tensor:
        skip = network.layer1(small[:, :, a:b]) if first is None else first[:, :, a:b]
        return network.conv_fine(network.iconv2(torch.cat([up(a, b), skip], dim=1))).float()

    return in_tiles(join, h, rows, halo=1 + max(1, _reach(network.layer1)[0])), small


def _describe_small(network: SmallUNet, image: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    grey = standardise(image)
    rows = rows_within(memory, grey.shape[3], 4 * 64) // STRIDE * STRIDE  # tiles start where the coarsest cells do
    if rows * STRIDE >= grey.shape[2]:
        whole = network.maps(grey)
        return whole.local_map.float(), whole.local_map_small.float()

    def both(a: int, b: int) -> Tensor:
        maps = network.maps(grey[:, :, a:b])
        return torch.cat([maps.local_map.float(), maps.local_map_small.float()], dim=1)

    maps = in_tiles(both, grey.shape[2] // STRIDE, rows, HALO, step=STRIDE)
    return maps[:, :-SMALL_CHANNELS], maps[:, -SMALL_CHANNELS:]


def _describe_eighth(network: ResUNet, small: Tensor, first: Tensor | None, memory: int) -> Tensor:
    """The map at an eighth of the image's resolution, from layer2, layer3 and the first half of the decoder.

    ``first`` is layer1's output; with None, it is computed here and not kept.
    """
    h, w = small.shape[2] // 2, small.shape[3] // 2
    rows = rows_within(memory, w, 4 * 1600)
    if first is None:
        second = _blocks_in_tiles(nn.Sequential(*network.layer1, *network.layer2), small, rows)
    else:
        second = _blocks_in_tiles(network.layer2, first, rows)
    third = second
    for block in network.layer3:
        third = _blocks_in_tiles(nn.Sequential(block), third, rows_within(memory, w // 2, 4096))
    up = _upconv(network.upconv3, third, (h, w))

    def join(a: int, b: int) -> Tensor:
        return network.iconv3(torch.cat([up(a, b), second[:, :, a:b]], dim=1))

    return in_tiles(join, h, rows_within(memory, w, 4096), halo=2)


def _upconv(upconv: UpConv, x: Tensor, size: tuple[int, int]) -> Compute:
    """Rows of what ``upconv`` makes of ``x``, right at a cut, too."""
    conv, bn = upconv.conv.conv, upconv.conv.bn
    upsampled = UpsampledConvolution(x, conv.weight, size, align_corners=True)
    assert conv.bias is not None
    bias = conv.bias
    return lambda low, high: F.elu(bn(upsampled.rows(low, high, bias)), inplace=True)


def score(
    head: KeypointHead | SmallHead, local_map: Tensor, local_map_small: Tensor, image: Tensor, memory: int
) -> Tensor:
    """Scores ``(H, W)`` of one image, as the head computes them.

    Args:
        local_map, local_map_small: ``(1, 128, h, w)`` and ``(1, 64, h, w)``.
        image: ``(1, 3, H, W)`` RGB in [0, 1].
        memory: bytes for the intermediate results of one tile; two maps, at most 60 bytes a pixel, come on top.
    """
    if isinstance(head, SmallHead):
        return _score_small(head, local_map, local_map_small, image, memory)

    return score_in_tiles(head, local_map, local_map_small, image, memory)


def _score_small(head: SmallHead, local_map: Tensor, local_map_small: Tensor, image: Tensor, memory: int) -> Tensor:
    grey = to_grey(image)

    def logits(a: int, b: int) -> Tensor:
        cells = slice(a // STRIDE, b // STRIDE)
        return head.logits(local_map[:, :, cells], local_map_small[:, :, cells], grey[:, :, a:b])

    rows = rows_within(memory, grey.shape[3], 100) // STRIDE * STRIDE
    return positive(in_tiles(logits, grey.shape[2], rows, HEAD_HALO))[0]


def _blocks_in_tiles(blocks: nn.Sequential, x: Tensor, rows: int) -> Tensor:
    reach, step = _reach(blocks)
    halo = -(-reach // step) * step
    compute = partial(_apply_to_rows, blocks, x)
    return in_tiles(compute, x.shape[2] // step, rows, halo, step)


def _apply_to_rows(module: nn.Module, x: Tensor, low: int, high: int) -> Tensor:
    return module(x[:, :, low:high])


def _reach(blocks: nn.Sequential) -> tuple[int, int]:
    """Rows of the input that a row of the output depends on, above and below; rows of the input for one of these."""
    reach, step = 0, 1
    for block in blocks:
        assert isinstance(block, Block)
        reach += block.reach * step
        step *= block.stride
    return reach, step
