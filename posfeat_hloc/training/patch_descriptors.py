"""Training of HardNet and SOSNet, on cut patches or on the dense map that D2D reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.l2net import PATCH_SIZE, L2Net, read_map
from posfeat_hloc.training.loop import Trainer
from posfeat_hloc.training.losses import distance_matrix, hardest_in_batch_loss, second_order_similarity
from posfeat_hloc.training.run_folder import RunFolder
from posfeat_hloc.training.views import RandomMix, ViewPair


@dataclass(frozen=True)
class TrainOptions:
    """How a patch descriptor is trained."""

    architecture: str = "hardnet"
    """``hardnet`` (triplet loss) or ``sosnet`` (triplet loss and second-order similarity)."""
    form: str = "dense"
    """``dense``: the network runs on whole views and is read at corresponding pixels, as D2D will read it.
    ``patches``: 32 x 32 patches are cut there, as Liberty was made."""
    steps: int = 2000
    pairs: int = 8
    """View pairs in a batch."""
    points: int = 128
    """Corresponding points read from each pair, at most."""
    learning_rate: float = 2e-3
    """Peak rate of Adam; warmed up over the first 3 % of the steps, then lowered along a cosine to zero."""
    window: int = 33
    """Local normalisation window of the dense form, in pixels."""
    eps: float = 0.01
    """Added to the local deviation (intensities in [0, 1])."""
    safe_radius: float = 12.0
    """Points of one view closer than this are no negatives of each other, in pixels."""
    dropout: float = 0.0
    """Before the last convolution; the papers use 0.3 (HardNet) and 0.1 (SOSNet) for far longer training."""
    second_order: float = 1.0
    """Weight of the second-order similarity (SOSNet only)."""
    seed: int = 0
    validate_every: int = 100
    start: str = "random"
    """Hash of the weights the run starts from; a run is resumed from the same start only."""


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
        options: TrainOptions,
        source: RandomMix[ViewPair],
        validation: list[ViewPair],
        folder: Path,
        initial: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(RunFolder(folder, asdict(options)), options.steps, options.validate_every)
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
            self.network.load_published(rename_layers(initial, self.network.published()))
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
            options = TrainOptions(**(asdict(self.options) | {"form": form}))
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
    network: L2Net, batch: list[ViewPair], options: TrainOptions, rng: np.random.Generator
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


def _schedule(progress: float, warm_up: float = 0.03) -> float:
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * float(np.cos(np.pi * (progress - warm_up) / (1 - warm_up)))
