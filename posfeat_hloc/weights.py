"""Which weights exist, where they are, and how they are checked and loaded.

Weights trained by this project lie in the folder ``weights/`` (in an installed package: beside this module), are named
in :data:`BUNDLED` and checked against their SHA-256. Any other checkpoint is given by its path.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from posfeat_hloc.errors import WeightsError


@dataclass(frozen=True)
class Bundled:
    """One file of weights shipped with the package."""

    file: str
    sha256: str


BUNDLED: dict[str, Bundled] = {
    "hardnet": Bundled("hardnet.safetensors", "4a973858abeffe2139a5e958e880b84a119ced69e71a1d9ddcce24b43a7866f3"),
    "sosnet": Bundled("sosnet.safetensors", "2be4aa597cc018e60c8f55be3342ca48a1d7619ba77d4cf7ec84eff24e93a4fa"),
}
"""Name used in a conf -> shipped file."""


@dataclass(frozen=True)
class Checkpoint:
    """Loaded weights: tensors under their published names, and the strings stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def load(name_or_path: str) -> Checkpoint:
    """Load bundled weights by name, or any checkpoint by path.

    Reads safetensors and PyTorch files (with ``weights_only=True``, so nothing in the file is executed). Of a training
    checkpoint the tensors under ``state_dict``, ``model`` or ``network`` are taken; a ``module.`` prefix
    is removed.

    Raises:
        WeightsError: unknown name, missing file, wrong hash, or a file that holds no tensors.
    """
    if name_or_path in BUNDLED:
        entry = BUNDLED[name_or_path]
        path = weights_folder() / entry.file
        if not path.exists():
            raise WeightsError(f"{path}: bundled weights are missing; install posfeat-hloc again")
        digest = sha256(path)
        if digest != entry.sha256:
            raise WeightsError(f"{path}: bundled weights were altered (SHA-256 {digest}); install posfeat-hloc again")
    else:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"weights {name_or_path!r}: neither a file nor a bundled name; bundled are {', '.join(sorted(BUNDLED))}"
            )
        digest = sha256(path)
    tensors, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path), {})
    return Checkpoint(tensors, metadata, digest)


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Write a safetensors file in half precision and return its SHA-256, the same for the same content."""
    half = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous() for name, tensor in tensors.items()
    }
    content = _with_sorted_metadata(serialize(half, metadata))
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return sha256(path)


def weights_folder() -> Path:
    """The folder of bundled weights, in an installed package or in a checkout."""
    installed = Path(__file__).parent / "_weights"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "weights"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library writes them in a random one."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types, all of them mean the same to a user
        raise WeightsError(f"{path}: not a checkpoint of plain tensors ({type(error).__name__})") from error
    for key in ("state_dict", "model", "network"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
