"""What PoSFeat's training starts from: our weights, a published checkpoint, or a ResNet trained on ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.resunet import ResUNet, backbone_name_of
from posfeat_hloc.weights.loading import load_posfeat


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
