"""Weights fetched, checked, converted and averaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, Option, WeightsError
from posfeat_hloc.weights.identification import Identity, architecture_of, identify, load_as


def fetch(name: str, output: str | None = None) -> tuple[str, Path, str]:
    """Download public weights, or resume an interrupted download, or take bundled ones.

    Args:
        name: of bundled or public weights.
        output: file or folder (of which a new one ends in ``/``) for a copy.

    Returns:
        their plain name, their file, their licence.

    Raises:
        ConfigurationError: no weights have this name.
        WeightsError: they cannot be downloaded, or are not what their hash says.
    """
    name = weights.plain_name(name)
    if name in weights.BUNDLED:
        path, licence = weights.weights_folder() / weights.BUNDLED[name].file, weights.OUR_LICENCE
        weights.load(name)
    elif name in weights.PUBLIC:
        path, licence = weights.download(name), weights.PUBLIC[name].licence
    else:
        known = ", ".join([*weights.BUNDLED, *weights.PUBLIC])
        raise ConfigurationError(f"{name!r} is the name of no weights; there are {known}")
    if output is not None:
        target = Path(output)
        path = _copy(path, target / path.name if output.endswith(os.sep) or target.is_dir() else target)
    return name, path, licence


def _copy(source: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, path)
    return path


def check(what: str) -> tuple[Identity, str]:
    """What weights are, and what their hash says; nothing is downloaded.

    Raises:
        WeightsError: not here, altered, or not the weights of what they should be.
    """
    what = weights.plain_name(what)
    if what in weights.BUNDLED:
        return load_as(architecture_of(what), what), "SHA-256 as promised"
    if what in weights.PUBLIC:
        path = weights.public_path(what)
        if not path.is_file():
            raise WeightsError(f"{what}: not here yet; posfeat-hloc weights get {what}")
        if not weights.is_published(path, what):
            raise WeightsError(
                f"{path}: not the published file of {what!r}; posfeat-hloc weights get {what} replaces it"
            )
        return load_as(architecture_of(what), str(path)), "git's hash as in the authors' repository"
    identity, name = identify(what), published_name(Path(what))
    if name is not None:
        return identity, f"the published file of {name!r}"
    return identity, "no hash to compare with: neither bundled nor public"


def published_name(path: Path) -> str | None:
    """The name under which this very file is bundled or public, None for others."""
    if not path.is_file():
        return None
    digest = weights.sha256(path)
    bundled = [name for name, entry in weights.BUNDLED.items() if entry.sha256 == digest]
    return next(iter([*bundled, *(name for name in weights.PUBLIC if weights.is_published(path, name))]), None)


def convert(source: str, output: Path) -> tuple[str, int]:
    """Write one safetensors file of a checkpoint, read it again and compare every value.

    Args:
        source: a file, or PoSFeat's folder with ``backbone.pth`` and ``localheader.pth``.
        output: a file that ends in ``.safetensors``.

    Returns:
        SHA-256 of the file, and the number of its tensors.

    Raises:
        ConfigurationError: another ending.
        WeightsError: ``source`` is no checkpoint that is known, or what is read is not what was written.
    """
    if output.suffix != ".safetensors":
        raise ConfigurationError(f"{output}: the name must end in .safetensors")
    identity = identify(source)
    posfeat = identity.architecture == "posfeat"
    loaded = weights.load_parts(source, ("backbone", "localheader")) if posfeat else weights.load(source)
    names = {name.replace(".module.", ".") if posfeat else name: tensor for name, tensor in loaded.tensors.items()}
    # a copy each: safetensors refuses tensors that share memory
    tensors = {name: (t.float() if t.is_floating_point() else t).clone() for name, t in names.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    origin = {"architecture": identity.architecture, "source": Path(source).name, "source_sha256": loaded.sha256}
    digest = weights.save(output, tensors, origin | loaded.metadata, half=False)
    again = weights.load(str(output)).tensors
    if again.keys() != tensors.keys() or not all(torch.equal(again[name], tensors[name]) for name in tensors):
        raise WeightsError(f"{output}: what is read is not what was written; do not use it")
    return digest, len(tensors)


def average(first: str, second: str, output: Path, share: float = 0.5) -> str:
    """Write (1 - share) first + share second of every tensor; keypoint head and metadata are those of the second.

    Between weights and what was fine-tuned from them such averages often keep the abilities of both (WiSE-FT,
    Wortsman et al., 2022).

    Returns:
        SHA-256 of the file.

    Raises:
        ConfigurationError: a share beyond 0 and 1, or weights of different networks.
    """
    if output.suffix != ".safetensors":
        raise ConfigurationError(f"{output}: the name must end in .safetensors")
    if not 0 <= share <= 1:
        raise ConfigurationError(Option("share", share), ": must be 0 to 1")
    one, other = weights.load(first), weights.load(second)
    shapes = [{name: tensor.shape for name, tensor in found.tensors.items()} for found in (one, other)]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(f"{first} and {second}: not weights of one network")
    tensors = {
        name: torch.lerp(one.tensors[name], tensor, share) if _averaged(name, tensor) else tensor
        for name, tensor in other.tensors.items()
    }
    origin = {"average_of": f"{one.sha256} {other.sha256}", "share": str(share)}
    output.parent.mkdir(parents=True, exist_ok=True)
    return weights.save(output, tensors, other.metadata | origin)


def _averaged(name: str, tensor: torch.Tensor) -> bool:
    """A keypoint head reads the descriptors that it was trained on, so heads are not mixed."""
    return tensor.is_floating_point() and not name.startswith("localheader.")
