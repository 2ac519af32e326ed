"""Torch devices by the names that users give them."""

from __future__ import annotations

import torch

from posfeat_hloc.errors import ConfigurationError


def choose_device(device: str) -> str:
    """``auto`` is ``cuda`` where torch finds a GPU, otherwise ``cpu``; ConfigurationError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device {device!r} cannot be used ({reason}); use auto or cpu") from error
    return device
