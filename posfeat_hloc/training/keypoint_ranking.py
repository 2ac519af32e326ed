"""Training of PoSFeat's keypoint head by ranking: places that match rightly must score higher than all others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.small import log_curvatures, positive, to_grey
from posfeat_hloc.training.dense_networks import PoSFeatMaps
from posfeat_hloc.training.loop import RunFolder, Trainer
from posfeat_hloc.training.options import ViewOptions
from posfeat_hloc.training.photometric import relight
from posfeat_hloc.training.warped_views import Shelf, ViewBatch

CURVATURE = (0.85, 0.15)
"""Weights of fine and coarse curvature in the scores that ``anchor`` holds a head to."""


@dataclass(frozen=True)
class RankingOptions:
    """How the keypoint head is trained over a frozen description network."""

    steps: int = 1000
    single: int = 6
    """Pairs of views of one photograph in a step."""
    fixed: int = 4
    """Pairs of two photographs of a fixed camera."""
    learning_rate: float = 3e-4
    """Of Adam; divided by ten in the last fifth of the steps."""
    relight: float = 1.0
    """Strength of the changes of light of each view."""
    right: float = 3.0
    """A match is right within this distance of the true place, in pixels."""
    cell: int = 8
    """The highest score of each cell of this many pixels is a candidate."""
    anchor: float = 0.0
    """Weight of the squared difference to the scores of curvature alone, for heads that do not contain them."""
    seed: int = 0
    validate_every: int = 250
    precision: str = "auto"
    data: tuple[str, ...] = ()
    """What is trained on and from, in words; a run is resumed on the same only."""
    views: ViewOptions = field(default_factory=lambda: ViewOptions(upright=0.7))


@dataclass(frozen=True)
class Judged:
    """Candidates of the first views.

    Attributes:
        scores: ``(B, N)``, with gradient.
        right: ``(B, N)`` bool, matched mutually within the limit.
        seen: ``(B, N)`` bool, visible in the second view.
        matched: ``(B, N)`` bool, matched mutually at all.
    """

    scores: Tensor
    right: Tensor
    seen: Tensor
    matched: Tensor


def judge(
    network: PoSFeatMaps, batch: ViewBatch, images: Tensor, options: RankingOptions, train: bool = True
) -> tuple[Judged, Tensor]:
    """Score both views, match their candidates, and compare the matches with the true homography.

    Returns:
        the judged candidates of the first views, and the scores ``(2B, S, S)``.
    """
    posfeat, size = network.network, options.views.size
    with inference_precision(images.device, options.precision):
        with torch.no_grad():
            maps = posfeat.backbone(images)
        with torch.set_grad_enabled(train):
            scores = posfeat.localheader(maps.local_map, maps.local_map_small, images)
    scores = scores.float()
    values, index = F.max_pool2d(scores[:, None], options.cell, return_indices=True)
    values, index = values.flatten(1), index.flatten(1)
    xy = torch.stack([index % size, index // size], dim=2).float()
    with torch.no_grad():
        own = network.read(maps.local_map.float(), xy, size)
        first, second = own.chunk(2)
        xy0, xy1 = xy.chunk(2)
        similarity = torch.bmm(first, second.transpose(1, 2))
        forth, back = similarity.argmax(dim=2), similarity.argmax(dim=1)
        counted = torch.arange(forth.shape[1], device=forth.device).expand_as(forth)
        mutual = back.gather(1, forth) == counted
        true = xy0 @ batch.homography[:, :, :2].transpose(1, 2) + batch.homography[:, None, :, 2]
        true = true[..., :2] / true[..., 2:]
        margin = options.views.margin
        seen = ((true >= margin) & (true <= size - 1 - margin)).all(dim=2)
        found = xy1.gather(1, forth[..., None].expand(-1, -1, 2))
        right = mutual & ((found - true).norm(dim=2) < options.right) & seen
    return Judged(values.chunk(2)[0], right, seen, mutual & seen), scores


def ranking_loss(judged: Judged) -> Tensor:
    """Mean over images of softplus(score of a wrong place - score of a right one) over all such pairs."""
    losses = []
    for scores, right, seen in zip(judged.scores, judged.right, judged.seen, strict=True):
        good, bad = scores[right], scores[seen & ~right]
        if len(good) and len(bad):
            losses.append(F.softplus(bad[None] - good[:, None]).mean())
    return torch.stack(losses).mean() if losses else judged.scores.sum() * 0


class RankingTrainer(Trainer):
    """A run of :class:`posfeat_hloc.training.loop.Trainer` over a frozen description network.

    Args:
        options: of the run.
        network: description network and head, on the device of the photographs.
        shelf, held_out: what to train and to validate on.
        folder: of the run.
    """

    def __init__(
        self, options: RankingOptions, network: PoSFeatMaps, shelf: Shelf, held_out: Shelf, folder: Path
    ) -> None:
        recorded = RunFolder(folder, asdict(options), ("validate_every", "precision"))
        super().__init__(recorded, options.steps, options.validate_every, log_every=50)
        self.options, self.network, self.shelf, self.held_out = options, network, shelf, held_out
        self.device = shelf.device
        network.network.backbone.requires_grad_(False).eval()
        head = network.network.localheader.requires_grad_(True)
        self.optimizer = torch.optim.Adam(head.parameters(), options.learning_rate)
        self.resume()

    def state(self) -> dict[str, Any]:
        """The head's."""
        return {"head": self.network.network.localheader.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the head's."""
        self.network.network.localheader.load_state_dict(state["head"])

    def train_step(self) -> dict[str, Tensor]:
        """One step; returns its loss without waiting for the device."""
        opt = self.options
        late = self.step >= 0.8 * opt.steps
        for group in self.optimizer.param_groups:
            group["lr"] = opt.learning_rate * (0.1 if late else 1.0)
        rng = np.random.default_rng([opt.seed, self.step])
        generator = torch.Generator(self.shelf.device).manual_seed(opt.seed * 1_000_003 + self.step)
        batch = self.shelf.render(self.shelf.plan(rng, (opt.single, opt.fixed, 0), opt.views), generator, opt.views)
        images = relight(batch.images, generator, opt.relight).contiguous(memory_format=torch.channels_last)
        self.network.network.localheader.train()
        judged, scores = judge(self.network, batch, images, opt)
        loss = ranking_loss(judged)
        if opt.anchor > 0:
            loss = loss + opt.anchor * (scores - curvature_scores(images)).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Of the 400 highest candidates of held-out views: the share matched rightly, and right ones among matches."""
        opt = self.options
        self.network.network.eval()
        rights, precisions = [], []
        for i in range(6):
            rng = np.random.default_rng([54321, i])
            generator = torch.Generator(self.shelf.device).manual_seed(i)
            batch = self.held_out.render(self.held_out.plan(rng, (4, 4, 0), opt.views), generator, opt.views)
            images = relight(batch.images, generator, opt.relight).contiguous(memory_format=torch.channels_last)
            judged, _ = judge(self.network, batch, images, opt, train=False)
            best = judged.scores.topk(min(400, judged.scores.shape[1]), dim=1).indices
            right, seen, matched = (x.gather(1, best).float() for x in (judged.right, judged.seen, judged.matched))
            rights.append(float(right.sum() / seen.sum().clamp_min(1)))
            precisions.append(float(right.sum() / matched.sum().clamp_min(1)))
        return {"right": float(np.mean(rights)), "precision": float(np.mean(precisions))}


def curvature_scores(images: Tensor) -> Tensor:
    """Scores ``(B, H, W)`` of the curvature of images ``(B, 3, H, W)`` alone, as an untrained small head gives them."""
    curvatures = log_curvatures(to_grey(images))
    return positive(torch.einsum("s,bshw->bhw", curvatures.new_tensor(CURVATURE), curvatures)[:, None])
