"""Half precision ends with the network: what follows it computes in single precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from posfeat_hloc import detection, weights
from posfeat_hloc.extractors import d2d, d2net, posfeat, superpoint
from posfeat_hloc.weights.loading import save_posfeat
from tests.networks.test_d2net import random_d2net
from tests.networks.test_l2net import calibrated_network
from tests.networks.test_superpoint import random_superpoint
from tests.training.scenes import network

CPU = torch.device("cpu")
STEPS: dict[ModuleType, tuple[dict[str, Any], tuple[str, ...]]] = {
    d2d: ({}, ("score_map", "top_k")),
    posfeat: ({"threshold": 0.0}, ("find_peaks", "refine", "read_descriptors")),
    superpoint: ({"d2d": "product"}, ("score_map", "adapted_threshold", "greedy_peaks", "read_map")),
    d2net: ({"d2d": True}, ("channel_maxima", "score_map", "interpolate_cells")),
}


def checkpoint(module: ModuleType, folder: Path) -> str:
    path = folder / "weights.safetensors"
    if module is posfeat:
        save_posfeat(path, network(), "consistent")
    elif module is d2d:
        weights.save(path, calibrated_network().published(), {"window": "17", "eps": "0.001"})
    else:
        weights.save(path, (random_superpoint() if module is superpoint else random_d2net()).state_dict(), {})
    return str(path)


@pytest.mark.parametrize("module", STEPS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_follows_the_network_is_single_precision(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, steps = STEPS[module]
    seen: dict[str, set[torch.dtype]] = {}

    def watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            product = torch.ones(2, 2) @ torch.ones(2, 2)  # bfloat16 within autocast
            tensors = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
            seen.setdefault(name, set()).update({product.dtype, *(t.dtype for t in tensors)})
            return step(*args, **named)

        return call

    for name in steps:
        owner = module if hasattr(module, name) else detection.d2d  # which computes the scores for all
        monkeypatch.setattr(owner, name, watched(name, getattr(owner, name)))
    extract = module.Extractor(module.Options(weights=checkpoint(module, tmp_path), precision="bf16", **options), CPU)
    channels = 1 if extract.grayscale else 3
    found = extract(torch.rand(1, channels, 64, 80, generator=torch.Generator().manual_seed(0)))[0]
    assert len(found) > 0
    assert seen == {name: {torch.float32} for name in steps}
