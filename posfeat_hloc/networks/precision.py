"""Where half precision pays, and how it is switched on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


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
