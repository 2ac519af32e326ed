"""Networks as trainings open, read and save them: one face for dense maps, and weights to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.detection.sampling import cells_to_pixels, sample_map
from posfeat_hloc.errors import ConfigurationError, Option, WeightsError
from posfeat_hloc.networks.l2net import L2Net, map_to_pixels, pixels_to_map
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.resunet import ResUNet, backbone_name_of
from posfeat_hloc.networks.small import SMALL, SmallHead, to_grey
from posfeat_hloc.weights.loading import load_posfeat, save_posfeat


class DenseNetwork(Protocol):
    """What the training of descriptors needs of a network."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def maps(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] to ``(B, D, h, w)``, not normalised."""

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """Unit descriptors ``(B, N, D)`` at pixels ``(B, N, 2)`` of square images of that size."""

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """``(h w, 2)`` pixels of the cells, row by row."""


class PoSFeatMaps:
    """The description network of PoSFeat; its keypoint head is left alone."""

    def __init__(self, network: PoSFeat, grid_alignment: str) -> None:
        self.network = network
        self.grid_alignment = grid_alignment
        network.localheader.requires_grad_(False)
        network.backbone.conv_coarse.requires_grad_(False)

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`DenseNetwork`."""
        return self.network.backbone(images).local_map

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        padding = "zeros" if self.grid_alignment == "published" else "border"
        return F.normalize(sample_map(dense, pixels, (size, size), self.grid_alignment, padding), dim=-1)

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        return cells_to_pixels(_lattice(dense), (dense.shape[2], dense.shape[3]), (size, size), self.grid_alignment)


class L2NetMaps:
    """HardNet or SOSNet, read densely."""

    def __init__(self, network: L2Net) -> None:
        self.network = network

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`DenseNetwork`."""
        return self.network(to_grey(images))

    def read(self, dense: Tensor, pixels: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        last = pixels.new_tensor([dense.shape[3] - 1, dense.shape[2] - 1])
        grid = pixels_to_map(pixels) * (2 / last) - 1
        read = F.grid_sample(dense.float(), grid[:, :, None], padding_mode="border", align_corners=True)
        return F.normalize(read[..., 0].transpose(1, 2), dim=-1)

    def cells(self, dense: Tensor, size: int) -> Tensor:
        """See :class:`DenseNetwork`."""
        return map_to_pixels(_lattice(dense))


def _lattice(dense: Tensor) -> Tensor:
    rows, columns = (torch.arange(n, device=dense.device, dtype=torch.float32) for n in dense.shape[2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)


PATCH_NETWORKS = ("hardnet", "sosnet")
"""Networks of D2D that this command trains beside PoSFeat's."""

WINDOW, EPSILON = 33, 0.01
"""Local normalisation of new HardNet and SOSNet weights."""


def open_network(kind: str | None, init: str | None) -> tuple[DenseNetwork, str]:
    """The network to train and the hash of what it starts from."""
    if kind is None and init is None:
        raise ConfigurationError(
            "give ",
            Option("init"),
            " (weights to start from) or ",
            Option("network"),
            " (to start from random weights)",
        )
    if kind in PATCH_NETWORKS or (kind is None and init in PATCH_NETWORKS):
        architecture = kind or str(init)
        if init is None:
            return L2NetMaps(L2Net(architecture, WINDOW, EPSILON)), "random"
        loaded = weights.load(init)
        told = loaded.metadata
        net = L2Net(architecture, int(told.get("window", WINDOW)), float(told.get("eps", EPSILON)))
        net.load_published(rename_layers(loaded.tensors, net.published()))
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return L2NetMaps(net), loaded.sha256
    if init is None:
        assert kind is not None
        return PoSFeatMaps(PoSFeat(kind), "consistent" if kind == SMALL else "published"), "random"
    initial = load_initial(init)
    if kind not in (None, initial.backbone_name):
        raise ConfigurationError(f"{init}: these are weights of {initial.backbone_name}, not of {kind}")
    network = PoSFeat(initial.backbone_name)
    network.load_state_dict(initial.tensors, strict=False)
    default = "consistent" if initial.backbone_name == SMALL else "published"
    return PoSFeatMaps(network, initial.grid_alignment or default), initial.sha256


def save(path: Path, network: DenseNetwork, told: dict[str, str]) -> str:
    """Write the weights; returns their SHA-256."""
    if isinstance(network, L2NetMaps):
        net = network.network
        known = {"architecture": net.architecture, "window": str(net.window), "eps": str(net.eps), "form": "dense"}
        return weights.save(path, net.published(), told | known)
    assert isinstance(network, PoSFeatMaps)
    if isinstance(network.network.localheader, SmallHead):  # the old head was trained on other descriptors
        network.network.localheader.load_state_dict(SmallHead().state_dict())
    return save_posfeat(path, network.network, network.grid_alignment, told | {"stage": "descriptors"})


@dataclass(frozen=True)
class Initial:
    """A state to start from.

    Attributes:
        tensors: of :class:`posfeat_hloc.networks.posfeat.PoSFeat`, whole or in part.
        backbone_name: the ResNet they belong to.
        grid_alignment: how the map was read in their training, None when it was not.
        has_descriptors: whether the description network is trained, not only its backbone.
        sha256: of what was read.
    """

    tensors: dict[str, Tensor]
    backbone_name: str
    grid_alignment: str | None
    has_descriptors: bool
    sha256: str


def load_initial(name_or_path: str) -> Initial:
    """Read PoSFeat weights (a file of ours, or a folder with the published files), or torchvision's file of a ResNet.

    Of a folder, ``localheader.pth`` may be missing: a description network alone is a start.

    Raises:
        WeightsError: nothing of this kind can be read there.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        checkpoint = weights.load(name_or_path)
        if {"conv1.weight", "layer1.0.conv1.weight"} <= checkpoint.tensors.keys():
            return _from_imagenet(name_or_path, checkpoint)
        has_head = any(name.startswith("localheader.") for name in checkpoint.tensors)
    else:
        has_head = (folder / "localheader.pth").is_file()
    loaded = load_posfeat(name_or_path, with_head=has_head)
    state = {f"backbone.{name}": tensor for name, tensor in loaded.backbone.state_dict().items()}
    if loaded.localheader is not None:
        state |= {f"localheader.{name}": tensor for name, tensor in loaded.localheader.state_dict().items()}
    return Initial(state, loaded.backbone.backbone_name, loaded.grid_alignment, True, loaded.sha256)


def _from_imagenet(source: str, checkpoint: weights.Checkpoint) -> Initial:
    """torchvision's names of the stem to PoSFeat's; layer4 and the classifier are left out."""
    tensors = checkpoint.tensors
    backbone_name = backbone_name_of(tensors, len(tensors["layer1.0.conv1.weight"]))
    if backbone_name is None:
        raise WeightsError(f"{source}: a ResNet that PoSFeat cannot use")
    renamed = {name.replace("conv1", "firstconv") if name == "conv1.weight" else name: t for name, t in tensors.items()}
    renamed = {
        ("first" + name.replace("bn1", "bn") if name.startswith("bn1.") else name): t for name, t in renamed.items()
    }
    own = ResUNet(backbone_name).state_dict()
    taken = {name: tensor for name, tensor in renamed.items() if name in own and own[name].shape == tensor.shape}
    needed = {name for name in own if name.startswith(("first", "layer")) and not name.endswith("num_batches_tracked")}
    if missing := needed - taken.keys():
        raise WeightsError(
            f"{source}: not torchvision's {backbone_name}; {len(missing)} tensors are missing, e.g. {min(missing)}"
        )
    return Initial(
        {f"backbone.{name}": tensor for name, tensor in taken.items()}, backbone_name, None, False, checkpoint.sha256
    )


def rename_layers(tensors: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors the names of another network of the same shape, layer by layer.

    HardNet and SOSNet are the same layers under other names, so one can start from the other. The batch counts, which
    old checkpoints lack and nothing reads, are left out.
    """

    def place(name: str) -> tuple[int, str]:
        _, number, kind = name.split(".")
        return int(number), kind

    try:
        old, new = (
            sorted((name for name in names if not name.endswith("num_batches_tracked")), key=place)
            for names in (tensors, like)
        )
    except ValueError as error:
        raise ConfigurationError("the initial weights are not those of a HardNet or SOSNet") from error
    if [tensors[name].shape for name in old] != [like[name].shape for name in new]:
        raise ConfigurationError("the initial weights are not those of a HardNet or SOSNet")
    return {target: tensors[source] for source, target in zip(old, new, strict=True)}
