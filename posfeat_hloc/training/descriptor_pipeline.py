"""Training of dense descriptors for robustness to illumination, rotation and scale, on view packs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.small import SmallHead
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.training.dense_networks import DenseNetwork, PoSFeatMaps, open_network, save
from posfeat_hloc.training.descriptors import DescriptorTrainer, TeacherMaps
from posfeat_hloc.training.keypoint_ranking import RankingOptions, RankingTrainer
from posfeat_hloc.training.options import DescriptorTrainingOptions, ViewOptions
from posfeat_hloc.training.view_pack import join, read_pack
from posfeat_hloc.training.views import is_held_out
from posfeat_hloc.training.warped_views import Shelf
from posfeat_hloc.weights.loading import load_disk, save_posfeat


def train_descriptors(
    pack: Sequence[Path], output: Path, options: DescriptorTrainingOptions, reporter: Reporter = QUIET
) -> tuple[str, dict[str, float]]:
    """Read packs, train to the last step, write ``weights.safetensors``; the same call resumes.

    Args:
        pack: files that :func:`posfeat_hloc.training.packing.pack_views` wrote.
        output: folder for checkpoint, log and weights.
        options: see :class:`DescriptorTrainingOptions`.
        reporter: hears what is done.

    Returns:
        SHA-256 of the weights, and the last validation.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    with only_writer(output), reporting(reporter):
        return _train(pack, output, options, reporter)


def _train(
    pack: Sequence[Path], output: Path, options: DescriptorTrainingOptions, reporter: Reporter
) -> tuple[str, dict[str, float]]:
    device = torch.device(choose_device(options.device))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(options.seed)
    network, start = open_network(options.network, options.init)
    network.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    digests = [weights.sha256(path) for path in pack]
    whole = join([read_pack(path) for path in pack])
    held = set(options.held_out)
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
    if options.head:
        return _train_head(
            output, options, reporter, network, shelf, held_out, (*digests, f"held out {' '.join(sorted(held))}", start)
        )
    teacher = None
    taught: tuple[str, ...] = ()
    if options.teacher:
        disk, digest = load_disk(options.teacher)
        taught = (f"teacher {digest}, read every {options.teacher_stride} px",)
        teacher = describe_all(disk.to(device), shelf, options.teacher_stride)
    data = (*digests, f"held out {' '.join(sorted(held))}", f"start {start}", *taught)
    path = output / "weights.safetensors"

    def export(metrics: dict[str, float]) -> None:
        save(path, network, {"steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)})

    trainer = DescriptorTrainer(options, data, network, shelf, held_out, output, teacher, export)
    reporter.say(
        f"{len(whole.images)} photographs, {len(whole.pairs)} pairs; held out: {', '.join(sorted(held))}; "
        f"{options.steps} steps of {options.single}+{options.fixed}+{options.model} pairs on {device}"
    )
    metrics = trainer.run(progress=reporter.progress)
    return weights.sha256(path), metrics


def _train_head(
    output: Path,
    options: DescriptorTrainingOptions,
    reporter: Reporter,
    network: DenseNetwork,
    shelf: Shelf,
    held_out: Shelf,
    data: tuple[str, ...],
) -> tuple[str, dict[str, float]]:
    """Train the keypoint head over the frozen description network that it starts from."""
    if not isinstance(network, PoSFeatMaps) or options.init is None:
        raise ConfigurationError(
            Option("head"), " trains PoSFeat's keypoint head: give ", Option("init", "PoSFeat weights")
        )
    head = network.network.localheader
    small = isinstance(head, SmallHead)
    if small:
        head.load_state_dict(SmallHead().state_dict())  # the description network changed what its head reads
    views = ViewOptions(size=options.size, upright=0.7)
    ranking = RankingOptions(
        steps=options.steps, learning_rate=options.learning_rate, relight=options.relight, seed=options.seed,
        data=data, views=views, anchor=0.0 if small else 1.0, validate_every=options.validate_every,
        precision=options.precision,
    )  # fmt: skip
    metrics = RankingTrainer(ranking, network, shelf, held_out, output).run(progress=reporter.progress)
    path = output / "weights.safetensors"
    told = {"stage": "head", "steps": str(options.steps), "metrics": json.dumps(metrics, sort_keys=True)}
    return save_posfeat(path, network.network, network.grid_alignment, told), metrics


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
