"""Which weights exist, where they are, and how they are checked and loaded.

Weights trained by this project lie in the folder ``weights/`` (in an installed package: beside this module), are named
in :data:`BUNDLED` and checked against their SHA-256. The authors' own checkpoints are named in :data:`PUBLIC`,
downloaded once and checked against the hash of their repository or release. Any other checkpoint is given by its path.
"""

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


@dataclass(frozen=True)
class Bundled:
    """One file of weights shipped with the package."""

    file: str
    sha256: str


BUNDLED: dict[str, Bundled] = {
    "posfeat": Bundled("posfeat-v2.safetensors", "705f08cda892b41aeedca546e841e341b195d18574555bc8eaeb5234161cd341"),
    "posfeat-small": Bundled(
        "posfeat-small-v4.safetensors", "70d5208c7a3b9dc03a9e4b0cac9670f00a0f740b666a68bf95404d4866beddeb"
    ),
    "hardnet": Bundled("hardnet-v2.safetensors", "5db8ee5bb2a3c8d00b51b2348ab4d433cfc5acd9246e9d02842b8555eb57e86c"),
    "sosnet": Bundled("sosnet-v2.safetensors", "cb53fe27608802d4e04f00e671c8c26beeafa002807414f13c397a7cb0016bb7"),
}
"""Name used in a conf -> shipped file, whose name tells the version; both names load it."""


def plain_name(name: str) -> str:
    """The name in :data:`BUNDLED` of a versioned name such as ``posfeat-small-v4``; other names are unchanged."""
    return next((plain for plain, entry in BUNDLED.items() if Path(entry.file).stem == name), name)


def version_of(name: str) -> str:
    """The versioned name of bundled weights, e.g. ``posfeat-small-v4`` for ``posfeat-small``."""
    return Path(BUNDLED[name].file).stem


def bundled_name(digest: str | None) -> str | None:
    """The name of the shipped weights with a SHA-256; None where none have it."""
    return next((name for name, entry in BUNDLED.items() if entry.sha256 == digest), None)


@dataclass(frozen=True)
class Public:
    """One checkpoint that its authors publish."""

    url: str
    digest: str
    """SHA-1 by which git knows the file, 40 digits; SHA-256, 64 digits, of a file that is in no repository."""
    licence: str
    """What its repository says of its use; said when the file is fetched."""

    @property
    def digest_kind(self) -> str:
        """What ``digest`` is, for people."""
        return "git blob" if len(self.digest) == 40 else "sha256"

    def digest_of(self, path: Path) -> str:
        """The hash of a file, of the same kind as ``digest``."""
        return git_blob(path) if len(self.digest) == 40 else sha256(path)


_HARDNET = "https://github.com/DagnyT/hardnet/raw/master/pretrained"
_SOSNET = "https://github.com/yuruntian/SOSNet/raw/master/sosnet-weights"
_SUPERPOINT = "https://github.com/magicleap/SuperPointPretrainedNetwork/raw/master"
_DISK = "https://github.com/cvlab-epfl/disk/raw/master"
_ALIKED = "https://github.com/Shiaoming/ALIKED/raw/main/models"
_LIGHTGLUE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"
_XFEAT = "https://github.com/verlab/accelerated_features/raw/main/weights"
_MIT = "MIT licence"
_NONE = "its repository states no licence"
_MAGIC_LEAP = "noncommercial research use only, not to be passed on; see LICENSE in its repository"
_APACHE = "Apache License 2.0"
_BSD = "BSD 3-Clause licence"
PUBLIC: dict[str, Public] = {
    "hardnet++": Public(
        f"{_HARDNET}/pretrained_all_datasets/HardNet%2B%2B.pth", "84aa9c230b7cd6d0a8a7d13b65b39cfb0f406eec", _MIT
    ),
    "hardnet-liberty": Public(
        f"{_HARDNET}/train_liberty/checkpoint_liberty_no_aug.pth", "8694b2a670aec840800966e42cd8c79e3be66e9a", _MIT
    ),
    "hardnet-liberty-aug": Public(
        f"{_HARDNET}/train_liberty_with_aug/checkpoint_liberty_with_aug.pth",
        "c1b2a5f4e79a5f3e50ec9a1ac98a428965cef37b",
        _MIT,
    ),
    "sosnet-liberty": Public(f"{_SOSNET}/sosnet_32x32_liberty.pth", "e1654f36def583bb942cccbe149b0162d57d3d2a", _NONE),
    "sosnet-hpatches": Public(
        f"{_SOSNET}/sosnet_32x32_hpatches_a.pth", "9154f47b3ead6f6eadd21bec48bd9b61e256e704", _NONE
    ),
    "superpoint": Public(f"{_SUPERPOINT}/superpoint_v1.pth", "107a444ca318d487390137d619d49f2f0a3b1ad8", _MAGIC_LEAP),
    "disk-depth": Public(f"{_DISK}/depth-save.pth", "0ae0911444297ea0fa5179ac7e9d0e8d7354d537", _APACHE),
    "disk-epipolar": Public(f"{_DISK}/epipolar-save.pth", "50e68668d376afdfa68c070171c0436318a652d1", _APACHE),
    "aliked-t16": Public(f"{_ALIKED}/aliked-t16.pth", "97822f50c8458b5a92a678f6d9ad747c5c1989c7", _BSD),
    "aliked-n16": Public(f"{_ALIKED}/aliked-n16.pth", "9449ca16f784aff7fa4c88ea0925b41f6411eef0", _BSD),
    "aliked-n16rot": Public(f"{_ALIKED}/aliked-n16rot.pth", "5aad43f3a944dd9461ecc89e648f15f11dc0c9aa", _BSD),
    "aliked-n32": Public(f"{_ALIKED}/aliked-n32.pth", "4a8323b10023acaed1195b4d9235224a363186cc", _BSD),
    "xfeat": Public(f"{_XFEAT}/xfeat.pt", "9da942e9c7406b8add3746bf98d4b1840233cd92", _APACHE),
    "lightglue-superpoint": Public(
        f"{_LIGHTGLUE}/superpoint_lightglue.pth",
        "6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
        _APACHE,
    ),
    "lightglue-disk": Public(
        f"{_LIGHTGLUE}/disk_lightglue.pth", "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335", _APACHE
    ),
    "lightglue-aliked": Public(
        f"{_LIGHTGLUE}/aliked_lightglue.pth",
        "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        _APACHE,
    ),
    "lightglue-xfeat": Public(f"{_XFEAT}/xfeat-lighterglue.pt", "061e168b4d9db6b086172f247c8adcebb76d7ef8", _APACHE),
}
"""Name used in a conf -> the authors' file. The name begins with the architecture."""

OUR_LICENCE = "Apache-2.0"
"""Of the bundled weights."""


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
            f"weights {name!r} ({entry.licence}) cannot be downloaded from {entry.url} ({error}); get the file by "
            f"other means and give its path, or put it at {path}"
        ) from error
    if (found := entry.digest_of(path)) != entry.digest:
        path.unlink()
        raise WeightsError(
            f"weights {name!r}: {entry.url} is not the published file ({entry.digest_kind} {found}); try again later"
        )
    return path


def git_blob(path: Path) -> str:
    """The SHA-1 by which git knows a file's content, as hexadecimal digits."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


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


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
