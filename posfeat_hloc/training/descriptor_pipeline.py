"""Dense descriptors trained to stand real light, rotation and zoom, on a pack of photographs and pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.l2net import L2Net
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import SMALL, SmallHead
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.training.dense_networks import DenseNetwork, L2NetMaps, PoSFeatMaps
from posfeat_hloc.training.descriptors import DescriptorOptions, DescriptorTrainer, TeacherMaps
from posfeat_hloc.training.keypoint_ranking import RankingOptions, RankingTrainer
from posfeat_hloc.training.map_losses import MapLossOptions
from posfeat_hloc.training.other_options import DescriptorTrainingOptions
from posfeat_hloc.training.patch_descriptors import rename_layers
from posfeat_hloc.training.pretrained import load_initial
from posfeat_hloc.training.view_pack import join, read_pack
from posfeat_hloc.training.views import is_held_out
from posfeat_hloc.training.warped_views import Shelf, ViewOptions
from posfeat_hloc.weights.loading import load_disk, save_posfeat

PATCH_NETWORKS = ("hardnet", "sosnet")
"""Networks of D2D that this command trains beside PoSFeat's."""

WINDOW, EPSILON = 33, 0.01
"""Local normalisation of new HardNet and SOSNet weights."""


def train_descriptors(
    pack: Sequence[Path], output: Path, args: DescriptorTrainingOptions, reporter: Reporter = QUIET
) -> tuple[str, dict[str, float]]:
    """Read packs, train to the last step, write ``weights.safetensors``; the same call resumes.

    Args:
        pack: files that :func:`posfeat_hloc.training.packing.pack_views` wrote.
        output: folder for checkpoint, log and weights.
        args: see :class:`DescriptorTrainingOptions`.
        reporter: hears what is done.

    Returns:
        SHA-256 of the weights, and the last validation.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    with only_writer(output), reporting(reporter):
        return _train(pack, output, args, reporter)


def _train(
    pack: Sequence[Path], output: Path, args: DescriptorTrainingOptions, reporter: Reporter
) -> tuple[str, dict[str, float]]:
    device = torch.device(choose_device(args.device))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    network, start = open_network(args.network, args.init)
    network.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    digests = [weights.sha256(path) for path in pack]
    whole = join([read_pack(path) for path in pack])
    held = set(args.held_out)
    if unknown := held - set(whole.groups):
        raise ConfigurationError(Option("held_out", ", ".join(sorted(unknown))), ": the pack has no such group")
    if not held:
        held = {group for group in set(whole.groups) if is_held_out(group)}
    if not held or held == set(whole.groups):
        raise ConfigurationError(
            f"no group of {', '.join(sorted(set(whole.groups)))} is left for training or for validation; name ",
            Option("held_out"),
        )
    shelf = Shelf(whole, device, set(whole.groups) - held)
    held_out = shelf.of_groups(held)
    if args.head:
        return _train_head(
            output, args, reporter, network, shelf, held_out, (*digests, f"held out {' '.join(sorted(held))}", start)
        )
    teacher = None
    taught: tuple[str, ...] = ()
    if args.teacher:
        disk, digest = load_disk(args.teacher)
        taught = (f"teacher {digest}, read every {args.teacher_stride} px",)
        teacher = describe_all(disk.to(device), shelf, args.teacher_stride)
    own = {f.name: getattr(args, f.name) for f in fields(DescriptorOptions) if hasattr(args, f.name)}
    data = (*digests, f"held out {' '.join(sorted(held))}", f"start {start}", *taught)
    views = ViewOptions(
        size=args.size, rotation=args.rotation, upright=args.upright, points=args.points, cell=args.cell
    )
    loss = MapLossOptions(inverse_temperature=args.inverse_temperature, safe_radius=args.safe_radius)
    options = DescriptorOptions(**own, data=data, views=views, loss=loss)
    path = output / "weights.safetensors"

    def export(metrics: dict[str, float]) -> None:
        save(path, network, {"steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)})

    trainer = DescriptorTrainer(options, network, shelf, held_out, output, teacher, export)
    reporter.say(
        f"{len(whole.images)} photographs, {len(whole.pairs)} pairs; held out: {', '.join(sorted(held))}; "
        f"{options.steps} steps of {options.single}+{options.fixed}+{options.model} pairs on {device}"
    )
    metrics = trainer.run(progress=reporter.progress)
    return weights.sha256(path), metrics


def _train_head(
    output: Path,
    args: DescriptorTrainingOptions,
    reporter: Reporter,
    network: DenseNetwork,
    shelf: Shelf,
    held_out: Shelf,
    data: tuple[str, ...],
) -> tuple[str, dict[str, float]]:
    """Train the keypoint head over the frozen description network that it starts from."""
    if not isinstance(network, PoSFeatMaps) or args.init is None:
        raise ConfigurationError(
            Option("head"), " trains PoSFeat's keypoint head: give ", Option("init", "PoSFeat weights")
        )
    head = network.network.localheader
    small = isinstance(head, SmallHead)
    if small:
        head.load_state_dict(SmallHead().state_dict())  # the description network changed what its head reads
    views = ViewOptions(size=args.size, upright=0.7)
    options = RankingOptions(
        steps=args.steps, learning_rate=args.learning_rate, light=args.light, seed=args.seed, data=data, views=views,
        anchor=0.0 if small else 1.0, validate_every=args.validate_every, precision=args.precision,
    )  # fmt: skip
    metrics = RankingTrainer(options, network, shelf, held_out, output).run(progress=reporter.progress)
    path = output / "weights.safetensors"
    told = {"stage": "head", "steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)}
    return save_posfeat(path, network.network, network.grid_alignment, told), metrics


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


@torch.no_grad()
def describe_all(disk: Any, shelf: Shelf, stride: int) -> TeacherMaps:
    """DISK's descriptors of all photographs of a shelf, every ``stride`` pixels."""
    side = shelf.canvases.shape[2] // stride
    count = len(shelf.canvases)
    maps = torch.empty((count, side, side, 128), dtype=torch.float16, device=shelf.device)
    for i in Bar(range(count), desc="teacher", unit="image", mininterval=5):
        with inference_precision(shelf.device, "auto"):
            dense = disk.heatmap_and_dense_descriptors(shelf.canvases[i : i + 1].float() / 255)[1]
        sampled = F.normalize(dense[0, :, ::stride, ::stride].float(), dim=0)
        maps[i] = sampled.permute(1, 2, 0).half()
    return TeacherMaps(maps, stride)


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
