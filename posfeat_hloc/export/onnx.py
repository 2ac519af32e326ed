"""A feature as an ONNX file: COLMAP 4 takes it in place of ALIKED's, and onnxruntime runs it in any language.

The graph has the inputs and outputs that COLMAP 4 asks of the file of ALIKED (``src/colmap/feature/aliked.cc`` there).
Networks are those of the extractor; only what reads sizes as Python numbers is written again, because tracing would
turn these into constants.
"""

from __future__ import annotations

import inspect
import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import posfeat_hloc
from posfeat_hloc import confs, extractors
from posfeat_hloc.detection.d2d import absolute_saliency, half_of_offsets
from posfeat_hloc.detection.hessian import hessian_determinant
from posfeat_hloc.detection.peaks import refine, refine_quadratic
from posfeat_hloc.detection.selection import CELL, contrast
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import d2d, posfeat
from posfeat_hloc.networks.l2net import pixels_to_map
from posfeat_hloc.networks.resunet import MULTIPLE, STRIDE
from posfeat_hloc.networks.small import to_grey


def graph_of(extractor: Any, feature: str) -> nn.Module:
    """The graph of an extractor; ``forward(image, max_keypoints, min_score)`` as :class:`PoSFeatGraph`'s.

    Args:
        extractor: of ``posfeat_hloc.extractors``.
        feature: its name, for the message.

    Raises:
        ConfigurationError: this kind of feature has no graph.
    """
    if isinstance(extractor, posfeat.Extractor) and not extractor.options.reproduce_official:
        return PoSFeatGraph(extractor).eval()
    if isinstance(extractor, d2d.Extractor) and extractor.options.positions == "hessian":
        return D2DGraph(extractor).eval()
    raise ConfigurationError(
        f"{feature}: cannot be exported to ONNX; posfeat-small, posfeat and d2d-*-subpixel can be (the paper's "
        "settings of PoSFeat add arbitrary keypoints, and D2D's grid has 4 px)"
    )


class PoSFeatGraph(nn.Module):
    """PoSFeat of either form without tiling, in float32."""

    def __init__(self, extractor: posfeat.Extractor) -> None:
        super().__init__()
        self.backbone, self.head = extractor.backbone, extractor.head
        self.options, self.grid_alignment = extractor.options, extractor.grid_alignment

    def forward(self, image: Tensor, max_keypoints: Tensor, min_score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the strongest keypoints.

        Args:
            image: ``(1, 3, H, W)`` RGB in [0, 1].
            max_keypoints: ``()`` int64.
            min_score: ``()`` float32; scores must reach it.

        Returns:
            keypoints ``(1, K, 2)``, -1 and 1 are the centres of the first and the last pixel; descriptors ``(1, K,
            128)``, L2-normalised; scores ``(1, K)``, highest first.
        """
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        maps = self.backbone(padded)
        scores = self.head(maps.local_map, maps.local_map_small, padded)[0, :height, :width]
        pixels = _first_maxima(scores, self.options.radius)
        values = scores[pixels[:, 1], pixels[:, 0]]
        seen = _has_contrast(padded, pixels, self.options.min_contrast)
        kept = (seen & (values > self.options.threshold) & (values >= min_score)).nonzero()[:, 0]
        best = kept[_strongest(values[kept], max_keypoints)]
        keypoints, values = refine(scores, pixels[best], self.options.subpixel)
        size = _width_height(maps.local_map)
        if self.grid_alignment == "consistent":
            cells = keypoints / STRIDE
        else:
            cells = keypoints * (size / (STRIDE * size - 1)) - 0.5
        border = "border" if self.grid_alignment == "consistent" else "zeros"
        return _answer(image, keypoints, _read(maps.local_map, cells, border), values)


class D2DGraph(nn.Module):
    """D2D over HardNet or SOSNet at one scale, with places at peaks of the Hessian, in float32."""

    def __init__(self, extractor: d2d.Extractor) -> None:
        super().__init__()
        if len(extractor.options.scales) > 1 or extractor.options.terms != "both":
            raise ConfigurationError("D2D can be exported at one scale and with both saliencies only")
        self.network, self.options = extractor.network, extractor.options

    def forward(self, image: Tensor, max_keypoints: Tensor, min_score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`PoSFeatGraph.forward`; colors are weighted as ITU-R 601 does."""
        grey = to_grey(image)
        raw = self.network(grey)
        saliency = absolute_saliency(raw) * _relative_saliency(raw, self.options.radius, self.options.step)
        pixels, strength = self._places(grey)
        cells = pixels_to_map(pixels)
        inside = ((cells >= 0) & (cells <= _width_height(raw) - 1)).all(dim=1)
        inside = inside & _has_contrast(grey, pixels.round().long(), self.options.min_contrast)
        scores = _read(saliency[None], cells, "border", normalised=False)[:, 0] * strength**self.options.peak_power
        kept = (inside & (scores >= min_score)).nonzero()[:, 0]
        best = kept[_strongest(scores[kept], max_keypoints)]
        return _answer(image, pixels[best], _read(raw, cells[best], "border"), scores[best])

    def _places(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """As :func:`posfeat_hloc.detection.hessian.peaks_of_all`."""
        taken = torch.zeros_like(grey[0, 0])
        places, strengths = [], []
        for sigma in self.options.sigmas:
            response = hessian_determinant(grey, sigma)[0]
            radius = self.options.peak_radius
            highest = F.max_pool2d(response[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
            there = ((response == highest) & (response > 0))[1:-1, 1:-1].nonzero() + 1
            pixels = there.flip(1)
            xy = refine_quadratic(response, pixels)
            near = xy.round().long()
            free = (taken[near[:, 1], near[:, 0]] == 0).nonzero()[:, 0]
            places.append(xy[free])
            strengths.append(response[pixels[free, 1], pixels[free, 0]])
            found = torch.zeros_like(taken).index_put((near[free, 1], near[free, 0]), torch.ones_like(strengths[-1]))
            taken = torch.maximum(taken, F.max_pool2d(found[None, None], 3, stride=1, padding=1)[0, 0])
        return torch.cat(places), torch.cat(strengths)


def _first_maxima(scores: Tensor, radius: int) -> Tensor:
    """Pixels ``(n, 2)`` int64 (x, y) of all maxima, as :func:`posfeat_hloc.detection.peaks.find_peaks` defines them."""
    padded = F.pad(scores[None, None], (radius - 1,) * 4, value=-torch.inf)
    _, winner = F.max_pool2d(padded, 2 * radius + 1, stride=1, return_indices=True)
    columns = torch.arange(scores.shape[1] - 2) + radius
    rows = torch.arange(scores.shape[0] - 2) + radius
    here = (winner[0, 0] == rows[:, None] * padded.shape[3] + columns).nonzero()
    return here.flip(1) + 1


def _has_contrast(image: Tensor, pixels: Tensor, least: float) -> Tensor:
    """Which pixels ``(n, 2)`` :func:`posfeat_hloc.detection.selection.textured` lets through: ``(n,)`` bool."""
    cells = torch.div(pixels, CELL, rounding_mode="floor")
    return contrast(image)[0][cells[:, 1], cells[:, 0]] >= least


def _strongest(values: Tensor, count: Tensor) -> Tensor:
    """Indices of the ``count`` highest values, highest first."""
    there = torch._shape_as_tensor(values)[0]
    kept: Any = torch.minimum(count, there)  # stays a tensor, and so part of the graph
    return torch.topk(values, kept)[1]


def _relative_saliency(raw: Tensor, radius: int, step: int) -> Tensor:
    """As :func:`posfeat_hloc.detection.d2d.relative_saliency`, by shifts of constant size: ``(1, h, w)``."""
    total, count = torch.zeros_like(raw[:, 0]), torch.zeros_like(raw[:, 0])
    for dy, dx in half_of_offsets(radius, step):  # dy is never negative
        down = raw[:, :, dy:]
        up = raw[:, :, : -dy or None]
        left, right = max(-dx, 0), max(dx, 0)
        here, there = up[..., left : -right or None], down[..., right : -left or None]
        distance = torch.linalg.vector_norm(here - there, dim=1)
        for shift in ((left, right, 0, dy), (right, left, dy, 0)):
            total = total + F.pad(distance, shift)
            count = count + F.pad(torch.ones_like(distance), shift)
    return total / count.clamp_min(1)


def _read(dense: Tensor, cells: Tensor, padding: str, normalised: bool = True) -> Tensor:
    """Values ``(N, D)`` of a map ``(1, D, h, w)`` at map coordinates ``(N, 2)``, in which cell i lies at i."""
    grid = (2 * cells + 1) / _width_height(dense) - 1
    read = F.grid_sample(dense, grid[None, :, None], padding_mode=padding, align_corners=False)[0, :, :, 0].T
    return F.normalize(read, dim=1) if normalised else read


def _answer(image: Tensor, keypoints: Tensor, descriptors: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    places = 2 * keypoints / (_width_height(image) - 1) - 1
    return places[None], descriptors[None], scores[None]


def _width_height(x: Tensor) -> Tensor:
    """``(2,)`` float32, of the last two axes; part of the graph, where ``x.shape`` may be a constant."""
    return torch._shape_as_tensor(x)[-2:].flip(0).float()


INPUTS = ("image", "max_keypoints", "min_score")
OUTPUTS = ("keypoints", "descriptors", "scores")
"""Names that COLMAP asks for, in this order."""

OPSET = 17
"""onnxruntime 1.12 and newer read it."""

FEATURES = confs.ONNX_FEATURES
"""Confs that can be exported."""


def write_onnx(feature: str, path: Path, weights: str | None = None) -> None:
    """Write the network of a conf with its detection, in float32.

    Where a conf spreads keypoints over the image, the file keeps the strongest instead.

    Args:
        feature: one of :data:`FEATURES`.
        path: of the file.
        weights: other weights than the conf's: a name or a path.

    Raises:
        ConfigurationError: the package onnx is missing, or the feature cannot be exported.
        WeightsError: the weights cannot be loaded.
    """
    _onnx()
    model = confs.extractors[feature]["model"] | ({"weights": weights} if weights else {})
    extractor: Any = extractors.create(model)
    image = torch.rand((1, 3, 96, 128), generator=torch.Generator().manual_seed(0))
    given = (image, torch.tensor(100), torch.tensor(0.0))
    of_any_size = {"image": {2: "height", 3: "width"}} | {name: {1: "keypoint"} for name in OUTPUTS}
    described = {"feature": feature, "weights_sha256": extractor.weights_sha256}
    inputs = dict(zip(INPUTS, given, strict=True))
    write_graph(path, graph_of(extractor, feature), inputs, OUTPUTS, of_any_size, described)


def write_graph(
    path: Path,
    graph: nn.Module,
    inputs: dict[str, Tensor],
    outputs: tuple[str, ...],
    of_any_size: dict[str, dict[int, str]],
    described: dict[str, str],
) -> None:
    """Write a graph.

    Args:
        path: of the file.
        graph: takes and returns tensors.
        inputs: names and examples of its inputs.
        outputs: names of its outputs.
        of_any_size: name -> axis -> name of this axis; all other axes keep the sizes of the examples.
        described: metadata.

    Raises:
        ConfigurationError: the package onnx is missing.
    """
    onnx = _onnx()
    legacy: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants: those that do are meant to
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(partial),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=of_any_size,
            opset_version=OPSET,
            **legacy,  # tracing: it needs no further package, and makes files of the same form in all versions of torch
        )
    written = onnx.load(str(partial))
    described |= {"posfeat_hloc": posfeat_hloc.__version__, "licence": "Apache-2.0"}
    onnx.helper.set_model_props(written, described)
    onnx.checker.check_model(written)
    onnx.save(written, str(partial))
    os.replace(partial, path)


def _onnx() -> Any:
    try:
        return import_module("onnx")
    except ImportError as error:
        raise ConfigurationError(
            'export-onnx needs the package onnx: pip install -c constraints.txt ".[onnx]"'
        ) from error
