"""Which torch device is taken, and what is said of one that is not there."""

from __future__ import annotations

import pytest
import torch

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime import devices


def test_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert devices.choose_device("auto") == expected
        assert devices.choose_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"device '{device}' cannot be used .*; use auto or cpu"):
        devices.choose_device(device)
