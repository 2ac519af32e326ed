"""A feature as an ONNX file: COLMAP 4 takes it in place of ALIKED's, and onnxruntime runs it in any language."""

from __future__ import annotations

import inspect
import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import posfeat_hloc
from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export.onnx_graph import graph_of

INPUTS = ("image", "max_keypoints", "min_score")
OUTPUTS = ("keypoints", "descriptors", "scores")
"""Names that COLMAP asks for, in this order."""

OPSET = 17
"""onnxruntime 1.12 and newer read it."""

FEATURES = confs.ONNX_FEATURES
"""Confs that can be exported."""

_OPEN = {"image": {2: "height", 3: "width"}} | {name: {1: "keypoint"} for name in OUTPUTS}
"""Axes of any size; COLMAP wants the length of a descriptor to be a number."""


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
    onnx = _onnx()
    model = confs.extractors[feature]["model"] | ({"weights": weights} if weights else {})
    extractor: Any = extractors.create(model)
    graph = graph_of(extractor, feature)
    example = torch.rand((1, 3, 96, 128), generator=torch.Generator().manual_seed(0))
    legacy: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants: those that do are meant to
        torch.onnx.export(
            graph,
            (example, torch.tensor(100), torch.tensor(0.0)),
            str(partial),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=_OPEN,
            opset_version=OPSET,
            **legacy,  # tracing: it needs no further package, and makes files of the same form in all versions of torch
        )
    written = onnx.load(str(partial))
    onnx.helper.set_model_props(
        written,
        {
            "feature": feature,
            "weights_sha256": extractor.weights_sha256,
            "posfeat_hloc": posfeat_hloc.__version__,
            "licence": "Apache-2.0",
        },
    )
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
