"""Weights and checkpoints: safetensors and PyTorch files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from posfeat_hloc import weights
from posfeat_hloc.training.dense_networks import load_initial
from posfeat_hloc.training.loop import RunFolder
from posfeat_hloc.weights.loading import load_l2net
from tests.fuzzing.readers import Reader, files_of

_SMALL = {"backbone.layer1.0.conv1.weight": torch.ones(4, 3, 3, 3), "layers.0.weight": torch.zeros(2, 1, 3, 3)}


def readers() -> list[Reader]:
    seeds = [
        files_of(lambda folder: save_file(_SMALL, folder / "w.safetensors", {"window": "33", "eps": "1e-7"})),
        files_of(lambda folder: torch.save({"state_dict": _SMALL}, folder / "w.pth")),
        files_of(lambda folder: torch.save(_SMALL, folder / "w.pth", _use_new_zipfile_serialization=False)),
    ]
    state = {"step": 3, "options": {"a": 1}, "network": _SMALL}
    return [
        Reader("weights", seeds, _weights),
        Reader("checkpoint", [files_of(lambda folder: torch.save(state, folder / "checkpoint.pt"))],
               lambda folder: RunFolder(folder, {"a": 1}).resume()),
    ]  # fmt: skip


def _weights(folder: Path) -> None:
    (path,) = folder.iterdir()
    weights.load(str(path))
    for read in (load_initial, lambda name: load_l2net("hardnet", name)):
        try:
            read(str(path))
        except weights.WeightsError:
            continue
