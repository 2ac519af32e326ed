"""HardNet and SOSNet trained from photographs and COLMAP models, on cut patches or on the dense map that D2D reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, ImageError, Option, PosfeatError
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.l2net import OFFSET, PATCH_SIZE, STRIDE, L2Net, read_map
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.training.dense_networks import rename_layers
from posfeat_hloc.training.loop import RunFolder, Trainer
from posfeat_hloc.training.losses import distance_matrix, hardest_in_batch_loss, second_order_similarity
from posfeat_hloc.training.model_pairs import ColmapOptions, ColmapSource
from posfeat_hloc.training.options import PatchTrainingOptions
from posfeat_hloc.training.views import (
    Image,
    RandomMix,
    Source,
    SyntheticOptions,
    SyntheticSource,
    ViewPair,
    is_held_out,
)

NOT_RECORDED = ("photos", "model", "init", "synthetic_share", "relight", "validation_pairs")
"""Options that a checkpoint does not hold; a run is resumed with others of them, too."""


class PatchTrainer(Trainer):
    """A resumable training run in a folder: ``checkpoint.pt``, ``log.jsonl``.

    Batch number i depends only on the seed and i, so a run that was killed and started again draws what an
    undisturbed run would have drawn.

    Args:
        options: of the run; a folder with a checkpoint made with others is refused.
        source: training view pairs.
        validation: a fixed list of held-out view pairs.
        folder: where the checkpoint and the log are kept.
        initial: weights of either network to start from, instead of random ones.

    Raises:
        ConfigurationError: the folder holds a run with other options.
    """

    def __init__(
        self,
        options: PatchTrainingOptions,
        source: RandomMix[ViewPair],
        validation: list[ViewPair],
        folder: Path,
        initial: weights.Checkpoint | None = None,
    ) -> None:
        recorded = {name: value for name, value in asdict(options).items() if name not in NOT_RECORDED}
        recorded["start"] = initial.sha256 if initial else "random"
        super().__init__(RunFolder(folder, recorded), options.steps, options.validate_every)
        self.options = options
        self.source = source
        self.validation = validation
        self.network = L2Net(options.architecture, options.window, options.eps)
        torch.manual_seed(options.seed)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, gain=0.6)
            elif isinstance(module, nn.Dropout):
                module.p = options.dropout
        if initial is not None:
            self.network.load_published(rename_layers(initial.tensors, self.network.published()))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.resume()

    def state(self) -> dict[str, Any]:
        """The network's, under the authors' names."""
        return {"network": self.network.published()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the network's."""
        self.network.load_published(state["network"])

    def train_step(self) -> dict[str, float]:
        """One optimiser step on the batch of this step number; returns the loss."""
        opt = self.options
        rng = np.random.default_rng([opt.seed, self.step])
        torch.manual_seed(opt.seed * 1_000_003 + self.step)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = opt.learning_rate * _schedule(self.step / opt.steps)
        batch = [self.source.sample(rng) for _ in range(opt.pairs)]
        self.network.train()
        descriptors0, descriptors1, near = describe_pairs(self.network, batch, opt, rng)
        loss = hardest_in_batch_loss(descriptors0, descriptors1, near)
        if opt.architecture == "sosnet":
            similarity = second_order_similarity(descriptors0, descriptors1, not_negative=near)
            loss = loss + opt.second_order * similarity
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {"loss": float(loss.detach())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of held-out points whose nearest neighbour in the other views is the right one.

        Read both ways a network can be read, whichever it is trained for.
        """
        self.network.eval()
        result = {}
        for form in ("dense", "patches"):
            options = replace(self.options, form=form)
            right = total = 0
            for start in range(0, len(self.validation), self.options.pairs):
                batch = self.validation[start : start + self.options.pairs]
                rng = np.random.default_rng(start)
                a, b, near = describe_pairs(self.network, batch, options, rng)
                eye = torch.eye(len(a), dtype=torch.bool)
                distances = distance_matrix(a, b).masked_fill(near & ~eye, float("inf"))
                right += int((distances.argmin(dim=1) == torch.arange(len(a))).sum())
                total += len(a)
            result[f"accuracy_{form}"] = right / max(1, total)
        return result


def describe_pairs(
    network: L2Net, batch: list[ViewPair], options: PatchTrainingOptions, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Describe corresponding points of view pairs.

    Returns:
        unit descriptors ``(N, 128)`` of the first and of the second views, and ``(N, N)`` bool: which points lie so
        close to each other, in the same pair, that they are no negatives.
    """
    chosen = [rng.permutation(len(pair.points0))[: options.points] for pair in batch]
    points = [
        [torch.from_numpy(p[c]) for p, c in zip(side, chosen, strict=True)]
        for side in ([pair.points0 for pair in batch], [pair.points1 for pair in batch])
    ]
    views = np.stack([pair.images[side] for side in (0, 1) for pair in batch])
    images = torch.from_numpy(views)[:, None].float() / 255
    with inference_precision(torch.device("cpu"), "auto"):
        read: Callable[[L2Net, Tensor, list[Tensor]], Tensor]
        read = _read_map if options.form == "dense" else _read_patches
        descriptors = read(network, images, points[0] + points[1])
    half = sum(len(c) for c in chosen)
    owner = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor([len(c) for c in chosen]))
    near = owner[:, None] == owner[None, :]
    close = torch.zeros_like(near)
    for side in points:
        xy = torch.cat(side)
        close |= torch.cdist(xy, xy) < options.safe_radius
    return descriptors[:half], descriptors[half:], near & close


def _read_map(network: L2Net, images: Tensor, points: list[Tensor]) -> Tensor:
    """Bilinear reading of the dense map at pixel coordinates."""
    return read_map(network(images).float(), points)


def _read_patches(network: L2Net, images: Tensor, points: list[Tensor]) -> Tensor:
    """Cut an upright 32 x 32 patch around every point and describe it alone."""
    size = images.shape[-1]
    offsets = torch.arange(PATCH_SIZE) - (PATCH_SIZE - 1) / 2
    window = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1)
    patches = []
    for image, xy in zip(images, points, strict=True):
        grid = (xy[:, None, None] + window) * (2 / (size - 1)) - 1
        grid = grid.reshape(1, len(xy) * PATCH_SIZE, PATCH_SIZE, 2)
        cut = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
        patches.append(cut.reshape(len(xy), 1, PATCH_SIZE, PATCH_SIZE))
    return F.normalize(network.describe_patches(torch.cat(patches)).float(), dim=1)


def _schedule(progress: float, warm_up: float = 0.03) -> float:
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * float(np.cos(np.pi * (progress - warm_up) / (1 - warm_up)))


def train_patches(output: Path, options: PatchTrainingOptions, reporter: Reporter = QUIET) -> str:
    """Read the data, train to the last step, save ``weights.safetensors``; the same call resumes.

    Args:
        output: folder for checkpoint, log and weights.
        options: see :class:`PatchTrainingOptions`.
        reporter: hears what is done.

    Returns:
        SHA-256 of the weights.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    with only_writer(output), reporting(reporter):
        return _train_patches(output, options, reporter)


def _train_patches(output: Path, options: PatchTrainingOptions, reporter: Reporter) -> str:
    initial = weights.load(options.init) if options.init else None
    if not options.photos and not options.model:
        raise ConfigurationError(
            "nothing to train on: give ", Option("photos", "DIR"), ", ", Option("model", "MODEL IMAGES"), ", or both"
        )
    lattice = (STRIDE, OFFSET) if options.form == "dense" else None
    sources: dict[bool, list[tuple[float, Source[ViewPair]]]] = {True: [], False: []}
    if options.photos:
        photos = read_photos(options.photos)
        for held_out in (False, True):
            chosen = [image for name, image in photos if is_held_out(name) == held_out]
            if chosen:
                synthetic = SyntheticSource(chosen, SyntheticOptions(light=options.relight), lattice)
                share = options.synthetic_share if options.model else 1.0
                sources[held_out].append((share, synthetic))
    for model, folder in options.model:
        share = (1 - options.synthetic_share if options.photos else 1.0) / len(options.model)
        names = list_images(Path(folder))
        for held_out in (False, True):
            keep = {name for name in names if is_held_out(name) == held_out}
            try:
                source = ColmapSource(Path(model), Path(folder), ColmapOptions(light=options.relight / 2), keep)
            except PosfeatError:
                if not held_out:
                    raise
                continue  # too few held-out images in a small scene: it is only trained on
            sources[held_out].append((share, source))
            reporter.say(f"{model}: {len(source.pairs)} {'held-out' if held_out else 'training'} image pairs")
    if not sources[False] or not sources[True]:
        raise ConfigurationError("too few photographs to hold some out for validation; give at least 30")
    rng = np.random.default_rng(12345)
    held_out_mix = RandomMix(sources[True])
    validation = [held_out_mix.sample(rng) for _ in range(options.validation_pairs)]
    trainer = PatchTrainer(options, RandomMix(sources[False]), validation, output, initial)
    trainer.run(reporter.progress)
    network = trainer.network.eval()
    metadata = {
        "architecture": options.architecture,
        "window": str(options.window),
        "eps": str(options.eps),
        "form": options.form,
        "steps": str(options.steps),
    }
    path = output / "weights.safetensors"
    digest = weights.save(path, network.published(), metadata)
    metrics = trainer.validate()
    write_atomically(output / "metrics.json", json.dumps(metrics | {"sha256": digest}, indent=2) + "\n")
    return digest


def read_photos(folders: Sequence[Path]) -> list[tuple[str, Image]]:
    """Names and grey photographs of at most 1024 pixels; files that cannot be read are named and left out."""
    photos: list[tuple[str, Image]] = []  # two folders may use the same name
    for folder in folders:
        for name in Bar(list_images(folder), desc=f"read {folder.name}", unit="image"):
            try:
                photos.append((name, resize(read_image(folder / name, grayscale=True).pixels, 1024)))
            except ImageError as error:
                Bar.write(f"skipped: {error}")
    return photos
