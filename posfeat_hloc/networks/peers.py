"""Networks of other authors in kornia's form, with their weights: ALIKED and XFeat."""

from __future__ import annotations

from typing import Any

import kornia
import torch
from torch import Tensor, nn

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError

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
    _load_strictly(network, checkpoint.tensors | grid, name_or_path, "ALIKED")
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
    _load_strictly(network.net, checkpoint.tensors, name_or_path, "XFeat")
    return network.eval(), checkpoint.sha256


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


def _load_strictly(network: nn.Module, tensors: dict[str, Tensor], source: str, what: str) -> None:
    as_float = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        network.load_state_dict(as_float, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{source}: these are not the weights of {what} ({error})") from error
