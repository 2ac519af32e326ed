"""Maps that are computed tile by tile of rows, each with the rows around it that its result depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.inference import as_given
from posfeat_hloc.networks.interpolation import UpsampledConvolution, upsampled_rows
from posfeat_hloc.networks.normalization import normalize_imagenet
from posfeat_hloc.networks.posfeat import MAP_CHANNELS, KeypointHead

Compute = Callable[[int, int], Tensor]
"""Rows [low, high) of the input -> the rows of the output that lie there; wrong at a cut, right elsewhere."""

EPS = 1e-5
"""Of instance normalisation."""


def in_tiles(compute: Compute, height: int, rows: int, halo: int, step: int = 1) -> Tensor:
    """A map of ``height`` rows, computed ``rows`` at a time.

    Args:
        compute: see :data:`Compute`.
        halo: rows of the input, above and below, that a row of the output depends on; a multiple of ``step``.
        step: rows of the input for one of the output.
    """
    result: Tensor | None = None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = strip_of(compute, height, top, bottom, halo, step)
        if result is None:
            if bottom == height:
                return piece
            result = piece.new_empty((*piece.shape[:2], height, piece.shape[3]))
        result[:, :, top:bottom] = piece
    assert result is not None
    return result


def moments(compute: Compute, height: int, rows: int, halo: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel of a map that is computed in tiles, ``(1, C, 1, 1)`` float32.

    Strips are merged in float64 (Chan, Golub and LeVeque).
    """
    count = 0
    mean = squares = torch.zeros(())
    for top in range(0, height, rows):
        piece = strip_of(compute, height, top, min(top + rows, height), halo, 1).float()
        n = piece[0, 0].numel()
        part_var, part_mean = (m.double() for m in torch.var_mean(piece, dim=(2, 3), correction=0, keepdim=True))
        if count == 0:
            mean, squares = part_mean, part_var * n
        else:
            difference = part_mean - mean
            squares = squares + part_var * n + difference**2 * (count * n / (count + n))
            mean = mean + difference * (n / (count + n))
        count += n
    return mean.float(), (squares / count + EPS).rsqrt().float()


def rows_within(memory: int, width: int, values: int) -> int:
    """Rows of a tile that needs ``values`` float32 a cell at its fullest."""
    return max(8, memory // (4 * width * values))


def strip_of(compute: Compute, height: int, top: int, bottom: int, halo: int, step: int) -> Tensor:
    """Rows [top, bottom) of the output; see :func:`in_tiles`."""
    low, high = max(top * step - halo, 0), min(bottom * step + halo, height * step)
    return compute(low, high)[:, :, top - low // step :][:, :, : bottom - top]


_STRIP = 128
"""Rows whose products are computed at once, at most: enough for those that tiles share not to matter."""


class Tile(NamedTuple):
    """Values of the head's second convolution.

    Attributes:
        rows, columns: where in the image.
        values: ``(rows, columns, 128)`` float32.
    """

    rows: slice
    columns: slice
    values: Tensor


def score_in_tiles(
    head: KeypointHead, local_map: Tensor, local_map_small: Tensor, image: Tensor, memory: int
) -> Tensor:
    """Scores ``(H, W)`` of one image; see :func:`posfeat_hloc.networks.tiled_inference.score`."""
    height, width = image.shape[-2:]
    x = _read_maps(head, local_map, local_map_small, memory)
    tile = rows_within(memory, width, 1200)

    def convimg(a: int, b: int) -> Tensor:
        return head.convimg(normalize_imagenet(image[:, :, a:b]))

    with as_given(image.device):
        normalisation = moments(convimg, height, tile, halo=1)
        tiles: Iterable[Tile]
        if image.is_cuda:
            tiles, needed = _Direct(head, x, image, normalisation, tile), 1200 * tile
        else:
            tile = min(_STRIP, rows_within(memory, width, 160))
            tiles, needed = _BeforeStretching(head, x, _ImagePart(head, image, *normalisation), tile), 160 * tile
        if 4 * width * (head.conv2.out_channels * height + needed) <= memory:
            tiles = list(tiles)
        logits = _logits(head, tiles, image.new_empty((height, width), dtype=torch.float32))
        return F.softplus(F.instance_norm(logits[None, None]))[0, 0]


def _read_maps(head: KeypointHead, local_map: Tensor, local_map_small: Tensor, memory: int) -> Tensor:
    """The maps after the first convolution, normalisation and PReLU, ``(1, 192, h, w)``."""
    h, w = local_map.shape[-2:]
    rows = rows_within(memory, w, 4 * MAP_CHANNELS)

    def conv1(a: int, b: int) -> Tensor:
        return head.conv1(torch.cat([local_map[:, :, a:b].to(local_map_small), local_map_small[:, :, a:b]], dim=1))

    x = in_tiles(conv1, h, rows, halo=1)
    mean, scale = moments(lambda a, b: x[:, :, a:b], h, rows)
    for a in range(0, h, rows):
        part = x[:, :, a : a + rows]
        part.copy_(head.relu((part.float() - mean) * scale))
    return x


class _BeforeStretching:
    """The second convolution, of products of the maps that are interpolated."""

    def __init__(self, head: KeypointHead, x: Tensor, image_part: _ImagePart, tile: int) -> None:
        self._maps_part = UpsampledConvolution(x, head.conv2.weight[:, :MAP_CHANNELS], image_part.size, False)
        self._image_part = image_part
        self._strip = tile

    def __iter__(self) -> Iterator[Tile]:
        height = self._image_part.size[0]
        for low in range(0, height, self._strip):
            products = self._maps_part.products(low, min(low + self._strip, height))
            for rows, columns in products.tiles():
                yield Tile(rows, columns, products.add_to(self._image_part(rows, columns), rows, columns))
            del products  # before the next ones are made


class _Direct:
    """The second convolution as it is written: what a GPU computes fastest."""

    def __init__(self, head: KeypointHead, x: Tensor, image: Tensor, normalisation: tuple[Tensor, Tensor], tile: int):
        self._head, self._x, self._image = head, x, image
        self._mean, self._scale = normalisation
        self._strip = tile

    def __iter__(self) -> Iterator[Tile]:
        height, width = self._image.shape[-2:]
        weight = self._head.conv2.weight.to(self._x.dtype)
        for low in range(0, height, self._strip):
            high = min(low + self._strip, height)
            a, b = max(low - 1, 0), min(high + 1, height)
            first, last = max(a - 1, 0), min(b + 1, height)
            colors = self._head.convimg(normalize_imagenet(self._image[:, :, first:last]))
            colors = ((colors - self._mean) * self._scale).to(self._x.dtype)[:, :, a - first :][:, :, : b - a]
            maps = upsampled_rows(self._x, a, b, (height, width), align_corners=False)
            values = F.conv2d(torch.cat([maps, colors], dim=1), weight, padding=1)[0, :, low - a : high - a]
            yield Tile(slice(low, high), slice(0, width), values.permute(1, 2, 0).float())


class _ImagePart:
    """What the second convolution makes of the image: one convolution of 5 x 5, with kernels of their own at borders.

    The first convolution is not defined beyond the image, where the second one reads zeros: taps that lie there are
    left out before both kernels become one.
    """

    def __init__(self, head: KeypointHead, image: Tensor, mean: Tensor, scale: Tensor) -> None:
        self.size = (image.shape[2], image.shape[3])
        padded = F.pad(normalize_imagenet(image.float()), (2, 2, 2, 2))
        self._padded = padded.contiguous(memory_format=torch.channels_last)
        assert head.convimg.bias is not None
        self._first = head.convimg.weight * scale.view(-1, 1, 1, 1)
        self._constant = (head.convimg.bias - mean.flatten()) * scale.flatten()
        self._second = head.conv2.weight[:, MAP_CHANNELS:]
        self._kernels: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """``(rows, columns, 128)`` float32, without the bias, which the normalisation takes away."""
        result = self._convolve(rows, columns, 0, 0)
        for part_y, side_y in _parts(rows, self.size[0]):
            for part_x, side_x in _parts(columns, self.size[1]):
                if side_y or side_x:
                    y, x = part_y.start - rows.start, part_x.start - columns.start
                    border = self._convolve(part_y, part_x, side_y, side_x)
                    result[y : y + border.shape[0], x : x + border.shape[1]] = border
        return result

    def _convolve(self, rows: slice, columns: slice, side_y: int, side_x: int) -> Tensor:
        near = self._padded[:, :, rows.start : rows.stop + 4, columns.start : columns.stop + 4]
        return F.conv2d(near, *self._kernel(side_y, side_x))[0].permute(1, 2, 0).contiguous()

    def _kernel(self, side_y: int, side_x: int) -> tuple[Tensor, Tensor]:
        if (side_y, side_x) not in self._kernels:
            second = self._second.clone()
            if side_y:
                second[:, :, 1 + side_y] = 0
            if side_x:
                second[:, :, :, 1 + side_x] = 0
            kernel = F.conv_transpose2d(second, self._first).contiguous(memory_format=torch.channels_last)
            self._kernels[side_y, side_x] = kernel, torch.einsum("omyx,m->o", second, self._constant)
        return self._kernels[side_y, side_x]


def _parts(places: slice, size: int) -> Iterator[tuple[slice, int]]:
    """The first place of an axis (side -1), the last one (side 1) and what is between (side 0), where asked for."""
    for low, high, side in ((0, 1, -1), (1, size - 1, 0), (size - 1, size, 1)):
        part = slice(max(low, places.start), min(high, places.stop))
        if part.start < part.stop:
            yield part, side


def _logits(head: KeypointHead, tiles: Iterable[Tile], result: Tensor) -> Tensor:
    """Normalise, PReLU and 1x1 convolution.

    With m the mean, s the scale and a PReLU's slope, PReLU(s (y - m)) = s (a y + (1 - a) max(y, m) - m): two products
    with a vector, and nothing of the size of y is written.
    """
    mean, scale = _moments_of_tiles(tiles, result.numel())
    slope = head.relu.weight
    weight = head.conv3.weight.flatten() * scale
    below, above, constant = weight * slope, weight * (1 - slope), weight @ mean
    for rows, columns, values in tiles:
        result[rows, columns] = values @ below + torch.maximum(values, mean) @ above - constant
    return result


def _moments_of_tiles(tiles: Iterable[Tile], count: int) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel; sums within a tile are float32, across tiles float64.

    Values are taken from the first tile's mean, so that squares are of the size of the variance.
    """
    origin: Tensor | None = None
    total = squares = torch.zeros((), dtype=torch.float64)
    for tile in tiles:
        values = tile.values.flatten(0, 1)
        if origin is None:
            origin = values.mean(dim=0)
        values = values - origin
        total = total + (values.new_ones(len(values)) @ values).double()
        squares = squares + torch.linalg.vector_norm(values, dim=0).double() ** 2
    assert origin is not None
    mean = total / count
    variance = (squares / count - mean**2).clamp_min(0)
    return (origin + mean).float(), (variance + EPS).rsqrt().float()
