"""Networks of other authors in kornia's form, with their weights: ALIKED, XFeat and LightGlue."""

from __future__ import annotations

from typing import Any

import kornia
import torch
from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.loading import load_strictly

ALIKED_FORMS: dict[tuple[int, int], str] = {(8, 16): "aliked-t16", (16, 16): "aliked-n16", (16, 32): "aliked-n32"}
"""Channels of the first convolution and sampling positions of a descriptor -> kornia's name of the form.

``aliked-n16rot`` is ``aliked-n16`` trained on rotated images.
"""


def load_aliked(name_or_path: str, threshold: float, radius: int, max_keypoints: int) -> tuple[Any, str]:
    """kornia's ALIKED in evaluation mode, in the form that the weights have, and the SHA-256 of its weights.

    Args:
        name_or_path: ``"aliked-n16"`` or another of the authors' files by its public name, or the path of a checkpoint.
        threshold, radius, max_keypoints: of its detection; see :class:`posfeat_hloc.extractors.aliked.Options`.

    Raises:
        WeightsError: the weights are missing, or those of another network, or kornia has no ALIKED.
    """
    checkpoint = weights.load(name_or_path)
    shapes = [checkpoint.tensors.get(key, torch.empty(0)).shape[0] for key in ("block1.conv1.weight", _SAMPLES)]
    form = ALIKED_FORMS.get((shapes[0], shapes[1]))
    if form is None:
        raise WeightsError(f"{name_or_path}: these are not the weights of ALIKED ({', '.join(ALIKED_FORMS.values())})")
    network = _of_kornia("ALIKED")(form, max_keypoints, threshold, radius)
    grid = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("dkd.")}  # no weights
    load_strictly(network, checkpoint.tensors | grid, name_or_path, "ALIKED")
    return network.eval(), checkpoint.sha256


def load_xfeat(name_or_path: str) -> tuple[Any, str]:
    """kornia's XFeat in evaluation mode, and the SHA-256 of its weights.

    Args:
        name_or_path: ``"xfeat"``, the authors' file, which is downloaded, or the path of a checkpoint.

    Raises:
        WeightsError: the weights are missing, or those of another network, or kornia has no XFeat.
    """
    checkpoint = weights.load(name_or_path)
    network = _of_kornia("XFeat")()
    load_strictly(network.net, checkpoint.tensors, name_or_path, "XFeat")
    return network.eval(), checkpoint.sha256


def load_lightglue(name_or_path: str, form: str, depth: float, width: float, threshold: float) -> tuple[Any, str]:
    """kornia's LightGlue in evaluation mode, and the SHA-256 of its weights.

    Args:
        name_or_path: one of the authors' files by its public name, or the path of a checkpoint.
        form: of :data:`LIGHTGLUE_FORMS`: the features it was trained for.
        depth, width, threshold: see :class:`posfeat_hloc.matchers.lightglue.Options`.

    Raises:
        WeightsError: the weights are missing, or those of another network or of LightGlue for other features.
    """
    checkpoint = weights.load(name_or_path)
    shape = LIGHTGLUE_FORMS[form]
    options = {"depth_confidence": depth, "width_confidence": width, "filter_threshold": threshold}
    network = _of_kornia("LightGlue")(features=None, **shape, **options)
    thresholds = {name: tensor for name, tensor in network.named_buffers() if name == "confidence_thresholds"}
    tensors = _lightglue_names(checkpoint.tensors)
    load_strictly(network, tensors | thresholds, name_or_path, f"LightGlue for {form}")
    return network.eval(), checkpoint.sha256


LIGHTGLUE_FORMS: dict[str, dict[str, int]] = {
    "superpoint": {"input_dim": 256},
    "disk": {"input_dim": 128},
    "aliked": {"input_dim": 128},
    "xfeat": {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1},  # LighterGlue
}
"""Model of features in ``posfeat_hloc.extractors`` -> sizes of the LightGlue that its authors trained for it."""


def _lightglue_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that kornia gives: older files put the kind before the layer, XFeat's file holds the extractor, too."""
    matcher = {name.removeprefix("matcher."): t for name, t in tensors.items() if not name.startswith("extractor.")}
    result = {}
    for name, tensor in matcher.items():
        first, _, rest = name.partition(".")
        if first in ("self_attn", "cross_attn"):
            layer, _, last = rest.partition(".")
            name = f"transformers.{layer}.{first}.{last}"
        if not (first == "log_assignment" and name.endswith(".r")):  # without use in the published network, too
            result[name] = tensor
    return result


_SAMPLES = "desc_head.agg_weights"


def _of_kornia(name: str) -> type:
    """A network of ``kornia.feature``, which older versions may not have."""
    found: type | None = getattr(kornia.feature, name, None)
    if found is None:
        raise WeightsError(
            f"{name}: kornia {kornia.__version__} does not have this network; it is in kornia 0.9, which needs Python "
            "3.11 or newer: pip install 'kornia>=0.9'"
        )
    return found
