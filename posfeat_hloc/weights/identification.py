"""Which network a file of weights is for: every loader is tried, and the weights must be finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.weights.kornia_networks import LIGHTGLUE_FORMS, load_aliked, load_lightglue, load_xfeat
from posfeat_hloc.weights.loading import load_caps, load_d2net, load_disk, load_l2net, load_posfeat, load_superpoint


@dataclass(frozen=True)
class Identity:
    """What weights turned out to be.

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
    raise WeightsError(f"{source}: the weights of no network of this package ({known})")


def _identity(architecture: str, source: str, name: str, networks: list[nn.Module]) -> Identity:
    for network in networks:
        for key, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise WeightsError(f"{source}: {key} holds values that are no finite numbers; get the file again")
    return Identity(architecture, name, sum(p.numel() for network in networks for p in network.parameters()))
