"""PoSFeat on images of any size: the same numbers, strip by strip of rows, within bounded memory.

A strip is computed with the rows above and below that its result depends on, so that nothing is approximated. Instance
normalisation needs the moments of a whole map first; maps at full resolution are therefore computed once for the
moments and once for the result, and never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.networks.keypoint_head import MAP_CHANNELS, KeypointHead
from posfeat_hloc.networks.normalization import normalize_imagenet
from posfeat_hloc.networks.resunet import MULTIPLE, STRIDE, Block, ResUNet
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

Compute = Callable[[int, int], Tensor]
"""Rows [low, high) of the input -> the rows of the output that lie there; wrong at a cut, right elsewhere."""

_EPS = 1e-5  # of instance normalisation


def describe(network: ResUNet | SmallUNet, image: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    """``local_map`` and ``local_map_small`` of one image, as the network computes them.

    Args:
        network: in evaluation mode.
        image: ``(1, 3, H, W)`` RGB in [0, 1], both sides multiples of 16.
        memory: bytes for the intermediate results of one strip. The maps themselves come on top, for a
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

    small = in_strips(lambda a, b: network.stem(image[:, :, a:b]), h, _rows(memory, width, 4 * 80), halo=8, step=STRIDE)
    x = _describe_eighth(network, small, memory)

    def join(a: int, b: int) -> Tensor:
        up = network.upconv2.conv(upsampled_rows(x, a, b, h, w, align_corners=True))
        return network.conv_fine(network.iconv2(torch.cat([up, network.layer1(small[:, :, a:b])], dim=1))).float()

    return in_strips(join, h, _rows(memory, w, 2400), halo=1 + max(1, _reach(network.layer1)[0])), small


def _describe_small(network: SmallUNet, image: Tensor, memory: int) -> tuple[Tensor, Tensor]:
    grey = standardise(image)

    def both(a: int, b: int) -> Tensor:
        maps = network.maps(grey[:, :, a:b])
        return torch.cat([maps.local_map.float(), maps.local_map_small.float()], dim=1)

    rows = _rows(memory, grey.shape[3], 4 * 64) // STRIDE * STRIDE  # strips start where the coarsest cells do
    maps = in_strips(both, grey.shape[2] // STRIDE, rows, HALO, step=STRIDE)
    return maps[:, :-SMALL_CHANNELS], maps[:, -SMALL_CHANNELS:]


def _describe_eighth(network: ResUNet, small: Tensor, memory: int) -> Tensor:
    """The map at an eighth of the image's resolution, from layer2, layer3 and the first half of the decoder."""
    h, w = small.shape[2] // 2, small.shape[3] // 2
    until_second = nn.Sequential(*network.layer1, *network.layer2)
    second = _blocks_in_strips(until_second, small, _rows(memory, w, 4 * 1600))
    third = second
    for block in network.layer3:
        third = _blocks_in_strips(nn.Sequential(block), third, _rows(memory, w // 2, 4096))

    def join(a: int, b: int) -> Tensor:
        up = network.upconv3.conv(upsampled_rows(third, a, b, h, w, align_corners=True))
        return network.iconv3(torch.cat([up, second[:, :, a:b]], dim=1))

    return in_strips(join, h, _rows(memory, w, 4096), halo=2)


def score(
    head: KeypointHead | SmallHead, local_map: Tensor, local_map_small: Tensor, image: Tensor, memory: int
) -> Tensor:
    """Scores ``(H, W)`` of one image, as the head computes them.

    Args:
        local_map, local_map_small: ``(1, 128, h, w)`` and ``(1, 64, h, w)``.
        image: ``(1, 3, H, W)`` RGB in [0, 1].
        memory: bytes for the intermediate results of one strip; two maps, at most 60 bytes a pixel, come on top.
    """
    height, width = image.shape[-2:]
    h, w = local_map.shape[-2:]
    if isinstance(head, SmallHead):
        return _score_small(head, local_map, local_map_small, image, memory)

    def conv1(a: int, b: int) -> Tensor:
        return head.conv1(torch.cat([local_map[:, :, a:b].to(local_map_small), local_map_small[:, :, a:b]], dim=1))

    coarse_rows = _rows(memory, w, 4 * MAP_CHANNELS)
    x = in_strips(conv1, h, coarse_rows, halo=1)
    mean, scale = moments(lambda a, b: x[:, :, a:b], h, coarse_rows)
    for a in range(0, h, coarse_rows):
        part = x[:, :, a : a + coarse_rows]
        part.copy_(head.relu((part.float() - mean) * scale))

    rows = _rows(memory, width, 1200)

    def convimg(a: int, b: int) -> Tensor:
        return head.convimg(normalize_imagenet(image[:, :, a:b]))

    image_moments = moments(convimg, height, rows, halo=1)

    def conv2(a: int, b: int) -> Tensor:
        first, last = max(a - 1, 0), min(b + 1, height)
        colours = convimg(first, last)[:, :, a - first :][:, :, : b - a]
        colours = ((colours - image_moments[0]) * image_moments[1]).to(x.dtype)
        return head.conv2(torch.cat([upsampled_rows(x, a, b, height, width, align_corners=False), colours], dim=1))

    mean, scale = moments(conv2, height, rows, halo=1)

    def conv3(a: int, b: int) -> Tensor:
        return head.conv3(head.relu((conv2(a, b) - mean) * scale)).float()

    scores = in_strips(conv3, height, rows, halo=1)
    mean, scale = moments(lambda a, b: scores[:, :, a:b], height, height)
    return F.softplus((scores - mean) * scale)[0, 0]


def _score_small(head: SmallHead, local_map: Tensor, local_map_small: Tensor, image: Tensor, memory: int) -> Tensor:
    grey = to_grey(image)

    def logits(a: int, b: int) -> Tensor:
        cells = slice(a // STRIDE, b // STRIDE)
        return head.logits(local_map[:, :, cells], local_map_small[:, :, cells], grey[:, :, a:b])

    rows = _rows(memory, grey.shape[3], 100) // STRIDE * STRIDE
    return positive(in_strips(logits, grey.shape[2], rows, HEAD_HALO))[0]


def in_strips(compute: Compute, height: int, rows: int, halo: int, step: int = 1) -> Tensor:
    """A map of ``height`` rows, computed ``rows`` at a time.

    Args:
        compute: see :data:`Compute`.
        halo: rows of the input, above and below, that a row of the output depends on; a multiple of ``step``.
        step: rows of the input for one of the output.
    """
    result: Tensor | None = None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = _strip(compute, height, top, bottom, halo, step)
        if result is None:
            if bottom == height:
                return piece
            result = piece.new_empty((*piece.shape[:2], height, piece.shape[3]))
        result[:, :, top:bottom] = piece
    assert result is not None
    return result


def moments(compute: Compute, height: int, rows: int, halo: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel of a map that is computed in strips, ``(1, C, 1, 1)`` float32.

    Strips are merged in float64 (Chan, Golub and LeVeque).
    """
    count = 0
    mean = squares = torch.zeros(())
    for top in range(0, height, rows):
        piece = _strip(compute, height, top, min(top + rows, height), halo, 1).float()
        n = piece[0, 0].numel()
        part_var, part_mean = (m.double() for m in torch.var_mean(piece, dim=(2, 3), correction=0, keepdim=True))
        if count == 0:
            mean, squares = part_mean, part_var * n
        else:
            difference = part_mean - mean
            squares = squares + part_var * n + difference**2 * (count * n / (count + n))
            mean = mean + difference * (n / (count + n))
        count += n
    return mean.float(), (squares / count + _EPS).rsqrt().float()


def upsampled_rows(x: Tensor, low: int, high: int, height: int, width: int, align_corners: bool) -> Tensor:
    """Rows [low, high) of the map ``x`` ``(1, C, h, w)`` stretched bilinearly to ``(height, width)``."""
    h = x.shape[2]
    target = torch.arange(low, high, device=x.device, dtype=torch.float64)
    if align_corners:
        source = target * ((h - 1) / max(height - 1, 1))
    else:
        source = ((target + 0.5) * (h / height) - 0.5).clamp_min(0)
    above = source.long().clamp_max(h - 1)
    below = (above + 1).clamp_max(h - 1)
    weight = (source - above).to(x.dtype)[:, None]
    between = torch.lerp(x[:, :, above], x[:, :, below], weight)
    return F.interpolate(between, size=(high - low, width), mode="bilinear", align_corners=align_corners)


def _rows(memory: int, width: int, values: int) -> int:
    """Rows of a strip that needs ``values`` float32 a cell at its fullest."""
    return max(8, memory // (4 * width * values))


def _strip(compute: Compute, height: int, top: int, bottom: int, halo: int, step: int) -> Tensor:
    low, high = max(top * step - halo, 0), min(bottom * step + halo, height * step)
    return compute(low, high)[:, :, top - low // step :][:, :, : bottom - top]


def _blocks_in_strips(blocks: nn.Sequential, x: Tensor, rows: int) -> Tensor:
    reach, step = _reach(blocks)
    halo = -(-reach // step) * step
    compute = partial(_apply_to_rows, blocks, x)
    return in_strips(compute, x.shape[2] // step, rows, halo, step)


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
