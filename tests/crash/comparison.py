"""In what two output folders differ, to the last digit; times and paths may."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from posfeat_hloc.sfm.database import describe_database
from posfeat_hloc.sfm.models import read_model

_TEXTS = ("pairs.txt", "poses.txt", "database.db.key")
_NOT_COMPARED = ("seconds", "key", "kept_from_earlier_run", "command", "path", "model", "other_models")


def differences(found: Path, expected: Path) -> list[str]:
    """What is not equal; an empty list where all is."""
    result = [f"{path.name} was left behind" for path in found.rglob("*") if path.suffix in (".partial", ".journal")]
    result += [
        f"{path.name} was left behind" for path in found.glob("*.partial*") if not path.name.endswith(".partial")
    ]
    for path in sorted(expected.iterdir()):
        other = found / path.name
        if path.name in ("logs", "tensorboard", "sparse.key"):
            continue
        if not other.exists():
            result.append(f"{path.name} is missing")
        elif _content(other) != _content(path):
            result.append(f"{path.name} differs")
    return result


def _content(path: Path) -> Any:
    if path.suffix == ".h5":
        return _hdf5(path)
    if path.suffix == ".db":
        return describe_database(path)
    if path.name in _TEXTS:
        return path.read_text()
    if path.suffix == ".json":
        return _without(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without(json.loads(line)) for line in path.read_text().splitlines()]
    if path.is_dir():
        return [_model(folder) for folder in sorted(path.iterdir())]
    if path.suffix == ".pt":
        return _hash_state(torch.load(path, weights_only=True))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hdf5(path: Path) -> dict[str, Any]:
    """Every array and attribute; with the source of an image, which names its time."""
    content: dict[str, Any] = {}
    with h5py.File(path, "r") as file:

        def add(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                content[name] = (str(item.dtype), item.shape, item[()].tobytes())
            content[f"{name} attributes"] = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}

        file.visititems(add)
        content["attributes"] = {key: np.asarray(value).tolist() for key, value in file.attrs.items()}
    return content


def _model(folder: Path) -> Any:
    model = read_model(folder)
    images = {i.name: i.cam_from_world().matrix().tolist() for i in model.images.values() if i.has_pose}
    points = {number: (point.xyz.tolist(), point.track.length()) for number, point in model.points3D.items()}
    return images, points, {number: camera.params.tolist() for number, camera in model.cameras.items()}


def _without(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if key not in _NOT_COMPARED}


def _hash_state(state: Any) -> Any:
    if isinstance(state, dict):
        return {str(key): _hash_state(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_hash_state(value) for value in state]
    if isinstance(state, torch.Tensor):
        return (str(state.dtype), hashlib.sha256(state.contiguous().view(-1).numpy().tobytes()).hexdigest())
    return state
