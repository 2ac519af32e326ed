"""Batch normalisation folded into the convolution before it: the same numbers from half the passes over memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
