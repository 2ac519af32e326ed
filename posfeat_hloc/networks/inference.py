"""Networks as they run: half precision where it pays, batch normalisation fused into convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 convolutions run in hardware: AVX-512 BF16 or AMX on a CPU, Ampere or later on a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def inference_precision(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to bf16 for ``"bf16"``, or for ``"auto"`` where the hardware has it; nothing for ``"fp32"``."""
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def as_given(device: torch.device) -> AbstractContextManager[object]:
    """Inside :func:`inference_precision`, compute in the types of the tensors themselves."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


Network = TypeVar("Network", bound=nn.Module)


def fuse_batch_norms(network: Network) -> Network:
    """Fold, in place, every BatchNorm2d that follows a convolution; state dicts lose their names by this.

    In a Sequential that is the layer before; elsewhere ``bn``, ``bn1``, ``firstbn`` follow ``conv``, ``conv1``,
    ``firstconv``, as in the networks of this package.

    Args:
        network: in evaluation mode.

    Returns:
        the network.
    """
    for module in list(network.modules()):
        for before, after in list(_pairs(module)):
            conv, bn = getattr(module, before), getattr(module, after)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(conv, bn))
                setattr(module, after, nn.Identity())
    return network


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    names = [name for name, _ in module.named_children()]
    if isinstance(module, nn.Sequential):
        yield from pairwise(names)
    else:
        yield from ((name.replace("bn", "conv"), name) for name in names if name.replace("bn", "conv") in names)
