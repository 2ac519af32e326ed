"""Which network weights are for; weights fetched, checked, converted and averaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, Option, WeightsError
from posfeat_hloc.weights.kornia_networks import LIGHTGLUE_FORMS, load_aliked, load_lightglue, load_xfeat
from posfeat_hloc.weights.loading import load_caps, load_d2net, load_disk, load_l2net, load_posfeat, load_superpoint


@dataclass(frozen=True)
class Identity:
    """Identification of weights.

    Attributes:
        architecture: one of :data:`LOADERS`, as names of weights begin.
        name: for people, with the backbone where there is one.
        parameters: their number.
    """

    architecture: str
    name: str
    parameters: int


Loader = Callable[[str], tuple[str, list[nn.Module]]]


def _l2net(architecture: str, name: str) -> Loader:
    return lambda source: (name, [load_l2net(architecture, source)[0]])


def _posfeat(source: str) -> tuple[str, list[nn.Module]]:
    loaded = load_posfeat(source)
    networks: list[nn.Module] = [network for network in (loaded.backbone, loaded.localheader) if network is not None]
    return f"PoSFeat on {loaded.backbone.backbone_name}", networks


def _lightglue(source: str) -> tuple[str, list[nn.Module]]:
    problems = []
    for form in LIGHTGLUE_FORMS:
        try:
            network = load_lightglue(source, form, 0.95, 0.99, 0.1)[0]
        except WeightsError as error:
            problems.append(error)
        else:  # those for DISK and ALIKED are of one shape
            return f"LightGlue for descriptors of {LIGHTGLUE_FORMS[form]['input_dim']} numbers", [network]
    raise problems[0]


LOADERS: dict[str, tuple[str, Loader]] = {
    "hardnet": ("HardNet", _l2net("hardnet", "HardNet")),
    "sosnet": ("SOSNet", _l2net("sosnet", "SOSNet")),
    "posfeat": ("PoSFeat", _posfeat),
    "superpoint": ("SuperPoint", lambda source: ("SuperPoint", [load_superpoint(source)[0]])),
    "d2net": ("D2-Net", lambda source: ("D2-Net", [load_d2net(source)[0]])),
    "disk": ("DISK", lambda source: ("DISK", [load_disk(source)[0]])),
    "aliked": ("ALIKED", lambda source: ("ALIKED", [load_aliked(source, 0.2, 2, 1)[0]])),
    "lightglue": ("LightGlue", _lightglue),
    "xfeat": ("XFeat", lambda source: ("XFeat", [load_xfeat(source)[0]])),
    "caps": ("CAPS", lambda source: ("CAPS", [load_caps(source)[0]])),
}
"""Architecture -> its name for people, and what loads a name or path as one."""


def architecture_of(name: str) -> str:
    """The architecture that the name of bundled or public weights begins with: ``hardnet++`` is of ``hardnet``."""
    return name.partition("-")[0].rstrip("+")


def load_as(architecture: str, source: str) -> Identity:
    """Load weights as those of one architecture.

    Raises:
        WeightsError: they cannot be read, are those of another network, or hold a value that is no finite number.
    """
    return _identity(architecture, source, *LOADERS[architecture][1](source))


def identify(source: str) -> Identity:
    """Find out which network weights are for.

    Raises:
        WeightsError: they cannot be read, belong to no network of this package, or hold values that are not finite.
    """
    if Path(source).is_dir():  # the layout of one network only
        return load_as("posfeat", source)
    weights.load(source)  # what is wrong with the file itself is said once
    for architecture, (_, loader) in LOADERS.items():
        try:
            name, networks = loader(source)
        except WeightsError:
            continue
        return _identity(architecture, source, name, networks)
    known = ", ".join(name for name, _ in LOADERS.values())
    raise WeightsError(f"{source}: not weights of a network of this package ({known})")


def _identity(architecture: str, source: str, name: str, networks: list[nn.Module]) -> Identity:
    for network in networks:
        for key, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise WeightsError(f"{source}: {key} holds values that are not finite; get the file again")
    return Identity(architecture, name, sum(p.numel() for network in networks for p in network.parameters()))


def fetch(name: str, output: str | None = None, source: Path | None = None) -> tuple[str, Path, str]:
    """Download public weights, or resume an interrupted download, or take bundled ones.

    Args:
        name: of bundled or public weights.
        output: file or folder (of which a new one ends in ``/``) for a copy.
        source: the file of public weights, which is copied instead of downloaded.

    Returns:
        their plain name, their file, their licence.

    Raises:
        ConfigurationError: no weights have this name.
        WeightsError: they cannot be downloaded, or are not what their hash says.
    """
    name = weights.plain_name(name)
    if name in weights.BUNDLED:
        if source is not None:
            raise ConfigurationError(f"{name!r} is in the package and is not taken from a file")
        path, licence = weights.weights_folder() / weights.BUNDLED[name].file, weights.OUR_LICENCE
        weights.load(name)
    elif name in weights.PUBLIC:
        public = weights.PUBLIC[name]
        if source is not None and not weights.is_published(source, name):
            raise WeightsError(f"{source}: not the published file of {name!r} ({public.digest_kind} {public.digest})")
        path = weights.download(name) if source is None else _copy(source, weights.public_path(name))
        licence = public.licence
    else:
        known = ", ".join([*weights.BUNDLED, *weights.PUBLIC])
        raise ConfigurationError(f"{name!r} is not a name of weights; choose from {known}")
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
    """Identify weights and verify their hash; nothing is downloaded.

    Raises:
        WeightsError: not here, altered, or not the weights of what they should be.
    """
    what = weights.plain_name(what)
    if what in weights.BUNDLED:
        return load_as(architecture_of(what), what), "SHA-256 as promised"
    if what in weights.PUBLIC:
        path = weights.public_path(what)
        if not path.is_file():
            raise WeightsError(f"{what}: not downloaded yet; run posfeat-hloc weights get {what}")
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
        WeightsError: ``source`` is no checkpoint that is known, or the values read differ from those written.
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
        raise WeightsError(f"{output}: the file differs from what was written; do not use it")
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
