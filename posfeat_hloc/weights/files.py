"""Files of weights: where they are, how they are checked, loaded and saved."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.downloading import download_file, one_at_a_time
from posfeat_hloc.weights.registry import BUNDLED, BY_PATH, PUBLIC, plain_name, sha256, version_of


@dataclass(frozen=True)
class Checkpoint:
    """Loaded weights: tensors under their published names, and the strings stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def load(name_or_path: str) -> Checkpoint:
    """Load bundled or public weights by name, or any checkpoint by path.

    Public weights are downloaded on first use, into ``posfeat_hloc`` in the folder of ``torch.hub`` (``TORCH_HOME``).

    Reads safetensors and PyTorch files (with ``weights_only=True``, so nothing in the file is executed). Of a training
    checkpoint the tensors under ``state_dict``, ``model``, ``network`` or ``extractor`` are taken; a ``module.`` prefix
    is removed.

    Raises:
        WeightsError: unknown name, missing file, no network, wrong hash, or a file that holds no tensors, or NaN.
    """
    name_or_path = plain_name(name_or_path)
    if name_or_path in BUNDLED:
        entry = BUNDLED[name_or_path]
        path = weights_folder() / entry.file
        if not path.exists():
            raise WeightsError(f"{path}: bundled weights are missing; install posfeat-hloc again")
        digest = sha256(path)
        if digest != entry.sha256:
            raise WeightsError(f"{path}: bundled weights were altered (SHA-256 {digest}); install posfeat-hloc again")
    elif name_or_path in PUBLIC:
        path = download(name_or_path)
        digest = sha256(path)
    else:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            if name_or_path in BY_PATH:
                raise WeightsError(BY_PATH[name_or_path])
            raise WeightsError(
                f"weights {name_or_path!r}: neither a file nor a known name; bundled are {', '.join(sorted(BUNDLED))} "
                f"(in versions {', '.join(sorted(map(version_of, BUNDLED)))}; older ones come with older releases), "
                f"public {', '.join(sorted(PUBLIC))}"
            )
        digest = sha256(path)
    tensors, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_torch(path), {})
    _check_finite(path, tensors)
    return Checkpoint(tensors, metadata, digest)


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    """A NaN in the weights of a network is one in all its features."""
    wrong = [name for name, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if wrong:
        raise WeightsError(
            f"{path}: {len(wrong)} of {len(tensors)} tensors hold NaN or infinite numbers, such as {wrong[0]}; the "
            "training diverged: take an earlier checkpoint"
        )


def public_path(name: str) -> Path:
    """Where the local copy of public weights belongs, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "posfeat_hloc" / PUBLIC[name].url.rpartition("/")[2].replace("%2B", "+")


def is_published(path: Path, name: str) -> bool:
    """Whether a file is there and holds the public weights of this name, to the last bit."""
    return path.is_file() and PUBLIC[name].digest_of(path) == PUBLIC[name].digest


def download(name: str) -> Path:
    """The local copy of public weights, downloaded if it is not there yet; a broken download is continued.

    Raises:
        WeightsError: they cannot be downloaded, or are not the published file.
    """
    entry, path = PUBLIC[name], public_path(name)
    if is_published(path, name):
        return path
    try:
        with one_at_a_time(path.parent):
            if is_published(path, name):  # another process has just fetched it
                return path
            print(f"fetching the weights {name!r} ({entry.licence})", file=sys.stderr)
            if download_file(entry.url, path) and not is_published(path, name):
                download_file(entry.url, path)  # the first part was of another file
    except (OSError, HTTPException) as error:
        raise WeightsError(
            f"weights {name!r} ({entry.licence}) cannot be downloaded from {entry.url} ({error}); download it "
            f"in another way, then posfeat-hloc weights get {name} --from FILE"
        ) from error
    if (found := entry.digest_of(path)) != entry.digest:
        path.unlink()
        raise WeightsError(
            f"weights {name!r}: {entry.url} is not the published file ({entry.digest_kind} {found}); try again later"
        )
    return path


def load_parts(name_or_path: str, parts: tuple[str, ...]) -> Checkpoint:
    """Load a network of several parts: a file with all tensors as ``<part>.<name>``, or a folder with ``<part>.pth``.

    Of a file, tensors of other parts are left out; of a folder, other files are not read. The hash is that of the file,
    or that of the hashes of the files in the folder.

    Raises:
        WeightsError: as :func:`load`, or a part is missing.
    """
    name_or_path = plain_name(name_or_path)
    folder = Path(name_or_path).expanduser()
    if name_or_path not in BUNDLED and folder.is_dir():
        files = {part: folder / f"{part}.pth" for part in parts}
        if missing := [file.name for file in files.values() if not file.is_file()]:
            raise WeightsError(f"{folder}: holds no {' and no '.join(missing)}; both files of a checkpoint are needed")
        loaded = {part: load(str(file)) for part, file in files.items()}
        tensors = {f"{part}.{name}": t for part, found in loaded.items() for name, t in found.tensors.items()}
        digests = "".join(found.sha256 for found in loaded.values())
        return Checkpoint(tensors, {}, hashlib.sha256(digests.encode()).hexdigest())
    whole = load(name_or_path)
    tensors = {name: tensor for name, tensor in whole.tensors.items() if name.startswith(tuple(f"{p}." for p in parts))}
    if missing := [part for part in parts if not any(name.startswith(f"{part}.") for name in tensors)]:
        raise WeightsError(
            f"{name_or_path}: holds no tensors named {missing[0]}.*; give the file (or folder) with all parts"
        )
    return Checkpoint(tensors, whole.metadata, whole.sha256)


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], half: bool = True) -> str:
    """Write a safetensors file and return its SHA-256, the same for the same content.

    In half precision, but for tensors with values that are too large for it; as the tensors are without ``half``.
    """
    stored = {name: (_halved(tensor) if half else tensor).contiguous() for name, tensor in tensors.items()}
    content = _with_sorted_metadata(serialize(stored, metadata))
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
    return sha256(path)


def weights_folder() -> Path:
    """The folder of bundled weights, in an installed package or in a checkout."""
    installed = Path(__file__).parents[1] / "_weights"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights"


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.equal(half.isfinite(), tensor.isfinite()) else tensor.float()


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
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors")
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, metadata


def _options_allowed() -> AbstractContextManager[object]:
    """Many training checkpoints hold their command line as well, in a class that is harmless; torch 2.5 can be told."""
    allow = getattr(torch.serialization, "safe_globals", None)
    return allow([Namespace]) if allow else nullcontext()


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with _options_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types, all of them mean the same to a user
        raise WeightsError(f"{path}: not a checkpoint of plain tensors ({type(error).__name__})") from error
    for key in ("state_dict", "model", "network", "extractor"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
