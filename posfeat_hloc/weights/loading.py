"""Networks with their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from kornia.feature import DISK
from torch import Tensor, nn

from posfeat_hloc import weights
from posfeat_hloc.confs import current_names
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.d2net import D2Net
from posfeat_hloc.networks.l2net import L2Net
from posfeat_hloc.networks.posfeat import GRID_ALIGNMENTS, KeypointHead, PoSFeat
from posfeat_hloc.networks.resunet import ResUNet, backbone_name_of
from posfeat_hloc.networks.small import SMALL, SmallHead, SmallUNet
from posfeat_hloc.networks.superpoint import SuperPoint

Network = TypeVar("Network", bound=nn.Module)


def load_l2net(
    architecture: str, name_or_path: str, window: int | None = None, eps: float | None = None
) -> tuple[L2Net, str]:
    """HardNet or SOSNet in evaluation mode, and the SHA-256 of its weights.

    Args:
        architecture: ``"hardnet"`` or ``"sosnet"``.
        name_or_path: bundled weights or a checkpoint, ours or the authors'.
        window, eps: of the local normalisation; None takes what the weights' metadata says, else 33 and 1e-7.

    Raises:
        WeightsError: the weights are missing, altered, or those of another network.
    """
    checkpoint = weights.load(name_or_path)
    trained = checkpoint.metadata
    if window is None:
        window = int(trained.get("window", 33))
    if eps is None:
        eps = float(trained.get("eps", 1e-7))
    network = L2Net(architecture, window, eps)
    try:
        network.load_published(checkpoint.tensors)
    except RuntimeError as error:
        raise WeightsError(f"{name_or_path}: these are not the weights of {architecture} ({error})") from error
    return network.eval(), checkpoint.sha256


@dataclass(frozen=True)
class LoadedPoSFeat:
    """PoSFeat's networks in evaluation mode.

    Attributes:
        backbone: the description network.
        localheader: the keypoint head, None where only descriptors were asked for.
        grid_alignment: how the map is read, as the weights were trained; see :mod:`posfeat_hloc.detection.sampling`.
        sha256: of the weights.
    """

    backbone: ResUNet | SmallUNet
    localheader: KeypointHead | SmallHead | None
    grid_alignment: str
    sha256: str


def load_posfeat(name_or_path: str, backbone_name: str | None = None, with_head: bool = True) -> LoadedPoSFeat:
    """PoSFeat from one file of ours, or from the published layout: a folder with ``backbone.pth``, ``localheader.pth``.

    Args:
        name_or_path: bundled weights, a file with tensors ``backbone.*`` and ``localheader.*``, or a folder.
        backbone_name: what is expected of ``BACKBONES``; None takes what the weights are.
        with_head: False reads the description network only; the rest may be missing.

    Raises:
        WeightsError: the weights are missing, incomplete, altered, or those of another network.
    """
    checkpoint = weights.load_parts(name_or_path, ("backbone", "localheader") if with_head else ("backbone",))
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "localheader": {}}
    for name, tensor in checkpoint.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest.removeprefix("module.")] = tensor
    first = parts["backbone"].get("layer1.0.conv1.weight")
    found = backbone_name_of(parts["backbone"], 0 if first is None else len(first))
    told = current_names(checkpoint.metadata)
    if told.get("backbone") == SMALL:
        found = SMALL
    if found is None:
        raise WeightsError(f"{name_or_path}: not a backbone of PoSFeat (layers of no known ResNet)")
    if backbone_name is not None and backbone_name != found:
        raise WeightsError(
            f"{name_or_path}: these are the weights of a {found}, not of a {backbone_name}; set backbone to {found}"
        )
    with torch.device("meta"):  # no time is lost on random weights
        network = PoSFeat(found)
    backbone, head = network.backbone, network.localheader if with_head else None
    load_strictly(backbone, parts["backbone"], name_or_path, f"PoSFeat's backbone on {found}")
    if head is not None:
        load_strictly(head, parts["localheader"], name_or_path, "PoSFeat's keypoint head")
        head.eval()
    grid_alignment = told.get("grid_alignment", "published")
    if grid_alignment not in GRID_ALIGNMENTS:
        raise WeightsError(
            f"{name_or_path}: unknown grid alignment {grid_alignment!r} in the metadata; update this package"
        )
    if found == SMALL:  # 1.7 times as fast on a CPU; the wide head is slower that way
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedPoSFeat(backbone.eval(), head, grid_alignment, checkpoint.sha256)


def load_caps(name_or_path: str) -> tuple[ResUNet, str]:
    """CAPS's network, which is PoSFeat's description network, in evaluation mode, and the SHA-256 of its weights.

    Args:
        name_or_path: the path of a checkpoint of the authors' code: names begin with ``net.``.

    Raises:
        WeightsError: the weights are missing, or those of another network.
    """
    checkpoint = weights.load(name_or_path)
    tensors = {name.removeprefix("net."): t for name, t in checkpoint.tensors.items() if name.startswith("net.")}
    first = tensors.get("layer1.0.conv1.weight")
    backbone_name = backbone_name_of(tensors, 0 if first is None else len(first))
    if backbone_name is None or len(tensors) < len(checkpoint.tensors):
        raise WeightsError(f"{name_or_path}: these are not the weights of CAPS (tensors net.* of a ResNet's U-Net)")
    with torch.device("meta"):
        network = ResUNet(backbone_name)
    return load_strictly(network, tensors, name_or_path, f"CAPS on {backbone_name}").eval(), checkpoint.sha256


def load_superpoint(name_or_path: str) -> tuple[SuperPoint, str]:
    """SuperPoint by ``"superpoint"``, the authors' downloaded file, or by a path; see :func:`load_network`."""
    return load_network(SuperPoint, name_or_path, "SuperPoint")


def load_d2net(name_or_path: str) -> tuple[D2Net, str]:
    """D2-Net by the path of a checkpoint, the authors' or one of their training code; see :func:`load_network`."""
    return load_network(D2Net, name_or_path, "D2-Net")


def load_disk(name_or_path: str) -> tuple[DISK, str]:
    """kornia's DISK by ``"disk-depth"`` or ``"disk-epipolar"``, the authors', or a path; see :func:`load_network`."""
    return load_network(DISK, name_or_path, "DISK")


def load_network(make: Callable[[], Network], name_or_path: str, what: str) -> tuple[Network, str]:
    """A network in evaluation mode, and the SHA-256 of its weights.

    Args:
        make: the network without weights.
        name_or_path: see :func:`posfeat_hloc.weights.load`.
        what: it is called in messages.

    Raises:
        WeightsError: the weights are missing, or those of another network.
    """
    checkpoint = weights.load(name_or_path)
    with torch.device("meta"):  # no time is lost on random weights
        network = make()
    return load_strictly(network, checkpoint.tensors, name_or_path, what).eval(), checkpoint.sha256


def save_posfeat(path: Path, network: PoSFeat, grid_alignment: str, metadata: dict[str, str] | None = None) -> str:
    """Write both networks to one safetensors file in half precision; returns its SHA-256.

    Args:
        grid_alignment: how the map was read in training, ``"published"`` or ``"consistent"``.
        metadata: more to store beside it, e.g. how it was trained.
    """
    if grid_alignment not in GRID_ALIGNMENTS:
        raise ValueError(f"grid_alignment must be one of {', '.join(GRID_ALIGNMENTS)}, not {grid_alignment!r}")
    known = {"architecture": "posfeat", "backbone": network.backbone.backbone_name, "grid_alignment": grid_alignment}
    return weights.save(path, network.state_dict(), (metadata or {}) | known)


def load_strictly(network: Network, tensors: dict[str, Tensor], source: str, what: str) -> Network:
    """Put all weights in place, as float32.

    Raises:
        WeightsError: a tensor is missing, has another shape, or belongs to no part of the network.
    """
    as_float = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        network.load_state_dict(as_float, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{source}: these are not the weights of {what} ({error})") from error
    return network
