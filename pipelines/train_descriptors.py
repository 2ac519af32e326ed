"""Train dense descriptors to stand real light, rotation and zoom, on a pack of photographs and pairs.

    python -m pipelines.pack_views --photos photos/* --model sfm/church/sparse/0 church/images --output views.h5
    python -m pipelines.train_descriptors --pack views.h5 --init posfeat-small --output runs/descriptors
    python -m pipelines.train_descriptors --pack views.h5 --init posfeat-small --teacher disk-depth --output runs/taught
    python -m pipelines.sfm --images photos --feature posfeat-small --weights runs/descriptors/weights.safetensors

The same command resumes a stopped run. A GPU is used if there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.l2net import L2Net
from posfeat_hloc.networks.posfeat import BACKBONES, PoSFeat
from posfeat_hloc.networks.precision import inference_precision
from posfeat_hloc.networks.small import SMALL, SmallHead
from posfeat_hloc.runtime.devices import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.training.dense_networks import DenseNetwork, L2NetMaps, PoSFeatMaps
from posfeat_hloc.training.descriptors import DescriptorOptions, DescriptorTrainer, TeacherMaps
from posfeat_hloc.training.keypoint_ranking import RankingOptions, RankingTrainer
from posfeat_hloc.training.map_losses import MapLossOptions
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


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, train, write the weights; returns the exit code."""
    args = _parser().parse_args(argv)
    resume = "the same command resumes from the last checkpoint, if there is one"
    return exit_code(lambda: _train_alone(args), args.output, resume)


def _train_alone(args: argparse.Namespace) -> bool:
    with only_writer(args.output):
        return train(args)


def train(args: argparse.Namespace) -> bool:
    """Read the pack, train to the last step, write ``weights.safetensors``."""
    device = torch.device(choose_device(args.device))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    network, start = open_network(args.network, args.init)
    network.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    digests = [weights.sha256(path) for path in args.pack]
    whole = join([read_pack(path) for path in args.pack])
    held = set(args.held_out)
    if unknown := held - set(whole.groups):
        raise ConfigurationError(f"--held-out {', '.join(sorted(unknown))}: the pack has no such group")
    if not held:
        held = {group for group in set(whole.groups) if is_held_out(group)}
    if not held or held == set(whole.groups):
        raise ConfigurationError(
            f"no group of {', '.join(sorted(set(whole.groups)))} is left for training or for validation; "
            "name --held-out"
        )
    shelf = Shelf(whole, device, set(whole.groups) - held)
    held_out = shelf.of_groups(held)
    if args.head:
        return train_head(args, network, shelf, held_out, (*digests, f"held out {' '.join(sorted(held))}", start))
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
    path = args.output / "weights.safetensors"

    def export(metrics: dict[str, float]) -> None:
        save(path, network, {"steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)})

    trainer = DescriptorTrainer(options, network, shelf, held_out, args.output, teacher, export)
    print(
        f"{len(whole.images)} photographs, {len(whole.pairs)} pairs; held out: {', '.join(sorted(held))}; "
        f"{options.steps} steps of {options.single}+{options.fixed}+{options.model} pairs on {device}",
        flush=True,
    )
    metrics = trainer.run(progress=not args.quiet)
    print(f"wrote {path} (SHA-256 {weights.sha256(path)}; {json.dumps(metrics)})")
    return True


def train_head(
    args: argparse.Namespace, network: DenseNetwork, shelf: Shelf, held_out: Shelf, data: tuple[str, ...]
) -> bool:
    """Train the keypoint head over the frozen description network of ``--init``."""
    if not isinstance(network, PoSFeatMaps) or args.init is None:
        raise ConfigurationError("--head trains PoSFeat's keypoint head: give --init PoSFeat weights")
    head = network.network.localheader
    small = isinstance(head, SmallHead)
    if small:
        head.load_state_dict(SmallHead().state_dict())  # the description network changed what its head reads
    views = ViewOptions(size=args.size, upright=0.7)
    options = RankingOptions(
        steps=args.steps, learning_rate=args.learning_rate, light=args.light, seed=args.seed, data=data, views=views,
        anchor=0.0 if small else 1.0, validate_every=args.validate_every, precision=args.precision,
    )  # fmt: skip
    metrics = RankingTrainer(options, network, shelf, held_out, args.output).run(progress=not args.quiet)
    path = args.output / "weights.safetensors"
    told = {"stage": "head", "steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)}
    print(f"wrote {path} (SHA-256 {save_posfeat(path, network.network, network.grid_alignment, told)})")
    return True


def open_network(kind: str | None, init: str | None) -> tuple[DenseNetwork, str]:
    """The network to train and the hash of what it starts from."""
    if kind is None and init is None:
        raise ConfigurationError("give --init (weights to start from) or --network (to start from random weights)")
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.train_descriptors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    default = DescriptorOptions()
    add("--pack", type=Path, nargs="+", required=True, metavar="FILE", help="made by pipelines.pack_views")
    add("--output", type=Path, required=True, help="folder for checkpoint, log and weights.safetensors")
    add("--head", action="store_true",
        help="train the keypoint head over the frozen description network of --init: places that match rightly rank "
        "higher")  # fmt: skip
    add("--network", choices=[*BACKBONES, *PATCH_NETWORKS], help="what is trained (default: --init's)")
    add("--init", metavar="NAME|FILE", help="weights to start from")
    add("--teacher", metavar="NAME|FILE", help="DISK weights (disk-depth, or a file) whose descriptors are learned")
    add("--teacher-stride", type=int, default=4, metavar="PX",
        help="spacing of the teacher's descriptors; 2 takes four times the memory (default: %(default)s)")  # fmt: skip
    add("--held-out", nargs="+", default=[], metavar="GROUP",
        help="groups (folders, scenes) to validate on (default: a tenth, by a hash of the names)")  # fmt: skip
    add("--steps", type=int, default=default.steps, help="default: %(default)s")
    for name, text in (
        ("single", "pairs of views of one photograph in a step"),
        ("fixed", "pairs of photographs of a fixed camera in a step"),
        ("model", "pairs of photographs of an SfM model in a step"),
    ):
        add(f"--{name}", type=int, default=getattr(default, name), metavar="N", help=f"{text} (default: %(default)s)")
    for name, text in (
        ("learning-rate", "peak rate of AdamW"),
        ("weight-decay", "of AdamW"),
        ("light", "strength of the changes of light, 0 to 1"),
        ("softmax", "weight of the cross entropy over the map"),
        ("triplet", "weight of the triplet loss with the hardest cell"),
        ("poses", "weight of PoSFeat's epipolar loss on pairs of models"),
        ("second-order", "weight of SOSNet's second-order similarity"),
        ("direct", "weight of 1 - cosine to the teacher"),
        ("teacher-softmax", "weight of the cross entropy among the teacher's descriptors"),
    ):
        value = getattr(default, name.replace("-", "_"))
        add(f"--{name}", type=float, default=value, metavar="X", help=f"{text} (default: %(default)s)")
    add("--no-tracks", dest="tracks", action="store_false",
        help="do not use the points of models as correspondences (poses may still be used)")  # fmt: skip
    add("--frozen-statistics", action="store_true", help="keep the statistics of batch normalisation")
    views, loss = ViewOptions(), MapLossOptions()
    add("--size", type=int, default=views.size, metavar="PX", help="side of a view (default: %(default)s)")
    add("--points", type=int, default=views.points, metavar="N", help="points of a pair (default: %(default)s)")
    add("--cell", type=int, default=views.cell, metavar="PX",
        help="a point is the most curved pixel of a cell of this side (default: %(default)s)")  # fmt: skip
    add("--rotation", type=float, default=views.rotation, metavar="DEG",
        help="largest rotation in the image plane (default: %(default)s)")  # fmt: skip
    add("--upright", type=float, default=views.upright, metavar="SHARE",
        help="of pairs that stay nearly upright (default: %(default)s)")  # fmt: skip
    add("--inverse-temperature", type=float, default=loss.inverse_temperature, metavar="X",
        help="of the softmax over the map (default: %(default)s)")  # fmt: skip
    add("--safe-radius", type=float, default=loss.safe_radius, metavar="PX",
        help="cells nearer to the true place do not compete (default: %(default)s)")  # fmt: skip
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="default: %(default)s")
    add("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    add("--validate-every", type=int, default=default.validate_every, metavar="STEPS",
        help="and write a checkpoint (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
