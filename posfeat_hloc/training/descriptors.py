"""Training of dense descriptors on warped and relit view pairs, real pairs of fixed cameras and of SfM models.

One loop for PoSFeat's description network and for HardNet and SOSNet; optionally with a teacher (DISK) that describes
the unchanged photograph, and with PoSFeat's epipolar loss on the poses of real pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.training.correspondence import description_loss
from posfeat_hloc.training.correspondence_search import LineToWindowOptions, line_to_window, query_points
from posfeat_hloc.training.dense_networks import DenseNetwork
from posfeat_hloc.training.loop import RunFolder, Trainer
from posfeat_hloc.training.losses import epipolar_contrast, map_losses, second_order_similarity, teacher_losses
from posfeat_hloc.training.options import DescriptorTrainingOptions, MapLossOptions, ViewOptions
from posfeat_hloc.training.photometric import relight
from posfeat_hloc.training.warped_views import Shelf, ViewBatch, curved_points

HELD_OUT_PAIRS, HELD_OUT_BATCHES = 8, 4
"""Pairs in a batch, and batches of each kind, that a validation looks at."""


def learning_rate(options: DescriptorTrainingOptions, step: int) -> float:
    """The learning rate of a step."""
    start = max(1, round(0.03 * options.steps))
    if step < start:
        return options.learning_rate * (step + 1) / start
    done = (step - start) / max(1, options.steps - start)
    return options.learning_rate * (1 + math.cos(math.pi * done)) / 2


def recorded(options: DescriptorTrainingOptions, data: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint holds of the options, in the form of earlier versions; ``data`` describes the files."""
    flat = asdict(options)
    for name in ("head", "network", "init", "teacher", "teacher_stride", "held_out", "device"):
        del flat[name]
    views, loss = ({f.name: flat.pop(f.name) for f in fields(kind)} for kind in (ViewOptions, MapLossOptions))
    loss["margin"] = loss.pop("triplet_margin")
    return flat | {"data": tuple(data), "views": views, "loss": loss}


class TeacherMaps:
    """Descriptors of a teacher for every photograph, computed once.

    Args:
        stride: of the stored descriptors in pixels.
        maps: ``(N, h, w, D)`` float16, unit vectors; cell i lies at pixel ``stride * i``.
    """

    def __init__(self, maps: Tensor, stride: int) -> None:
        self.maps = maps
        self.stride = stride

    def read(self, photographs: Tensor, pixels: Tensor) -> Tensor:
        """Unit descriptors ``(..., P, D)`` at pixels ``(..., P, 2)`` of photographs ``(...)``."""
        rows, columns = self.maps.shape[1:3]
        xy = (pixels / self.stride).clamp_min(0)
        x, y = xy[..., 0].clamp_max(columns - 1), xy[..., 1].clamp_max(rows - 1)
        left, top = x.floor().clamp_max(columns - 2).long(), y.floor().clamp_max(rows - 2).long()
        fx, fy = (x - left)[..., None], (y - top)[..., None]
        index = photographs[..., None].expand_as(left)

        def at(i: int, j: int) -> Tensor:
            return self.maps[index, top + i, left + j].float()

        upper, lower = at(0, 0) * (1 - fx) + at(0, 1) * fx, at(1, 0) * (1 - fx) + at(1, 1) * fx
        return F.normalize(upper * (1 - fy) + lower * fy, dim=-1)


class DescriptorTrainer(Trainer):
    """A run of :class:`posfeat_hloc.training.loop.Trainer`; its log has a line for 50 steps.

    Args:
        options: of the run.
        data: what is trained on and from, in words; a run is resumed on the same only.
        network: to be trained, on the device of the photographs.
        shelf: what to train on.
        held_out: what to validate on.
        folder: of the run.
        teacher: see :class:`TeacherMaps`.
        exported: called with the metrics after each validation.

    Raises:
        ConfigurationError: the folder holds a run with other options.
    """

    def __init__(
        self,
        options: DescriptorTrainingOptions,
        data: Sequence[str],
        network: DenseNetwork,
        shelf: Shelf,
        held_out: Shelf,
        folder: Path,
        teacher: TeacherMaps | None = None,
        exported: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        run = RunFolder(folder, recorded(options, data), ("validate_every", "precision"))
        super().__init__(run, options.steps, options.validate_every, log_every=50)
        self.exported = exported
        self.options, self.network, self.shelf, self.held_out, self.teacher = options, network, shelf, held_out, teacher
        self.device = shelf.device
        trained = [p for p in network.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, options.learning_rate, weight_decay=options.weight_decay)
        self.resume()

    def export(self, metrics: dict[str, float]) -> None:
        """Hand over the metrics."""
        if self.exported is not None:
            self.exported(metrics)

    def state(self) -> dict[str, Any]:
        """The network's."""
        return {"network": self.network.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the network's."""
        self.network.network.load_state_dict(state["network"])

    def train_step(self) -> dict[str, Tensor]:
        """One step; returns its losses without waiting for the device."""
        opt = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(opt, self.step)
        rng = np.random.default_rng([opt.seed, self.step])
        generator = torch.Generator(self.device).manual_seed(opt.seed * 1_000_003 + self.step)
        plan = self.shelf.plan(rng, (opt.single, opt.fixed, opt.model), opt)
        batch = self.shelf.render(plan, generator, opt)
        network = self.network.network
        network.train(not opt.frozen_statistics)
        losses = self.losses(batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 10.0)
        self.optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def losses(self, batch: ViewBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """``loss`` and its terms of one batch."""
        opt = self.options
        size = opt.size
        images = relight(batch.images, generator, opt.relight).contiguous(memory_format=torch.channels_last)
        with inference_precision(self.device, opt.precision):
            dense = self.network.maps(images)
        maps = dense.float().chunk(2)
        own = [self.network.read(m, xy, size) for m, xy in zip(maps, batch.points, strict=True)]
        sparse = [m[:, :, ::2, ::2] for m in maps]  # the points compete, too; all cells would take half of a step
        cells = self.network.cells(dense, size).view(*dense.shape[2:], 2)[::2, ::2].flatten(0, 1)
        of_model = ~batch.fundamental.isnan().any(dim=2).any(dim=1)
        valid = batch.valid if opt.tracks else batch.valid & ~of_model[:, None]
        forth = map_losses(own[0], own[1], sparse[1], cells, batch.points[1], valid, opt)
        back = map_losses(own[1], own[0], sparse[0], cells, batch.points[0], valid, opt)
        terms = {
            "softmax": (forth.softmax + back.softmax) / 2,
            "triplet": (forth.triplet + back.triplet) / 2,
            "right": (forth.right + back.right) / 2,
        }
        loss = opt.softmax * terms["softmax"] + opt.triplet * terms["triplet"]
        if opt.second_order > 0:
            chosen = [d[valid] for d in own]
            order = torch.randperm(len(chosen[0]), generator=generator, device=self.device)[:512]
            loss = loss + opt.second_order * second_order_similarity(chosen[0][order], chosen[1][order])
        if self.teacher is not None:
            for side in (0, 1):
                other = 1 - side  # what the teacher says of the other photograph of the same place
                for told, share in ((side, 0.7), (other, 0.3)):
                    taught = self.teacher.read(batch.photographs[told], batch.sources[told])
                    direct, entropy = teacher_losses(own[side], taught, batch.valid)
                    loss = loss + share / 2 * (opt.direct * direct + opt.teacher_softmax * entropy)
                    terms["direct"] = terms.get("direct", torch.zeros_like(direct)) + direct.detach() * share / 2
        if opt.poses > 0 and bool(of_model.any()):
            epipolar = self._epipolar(maps, batch.fundamental, of_model, generator)
            loss = loss + opt.poses * epipolar
            terms["epipolar"] = epipolar
        if opt.pose_contrast > 0 and bool(of_model.any()):
            contrast, partners = self._contrast(batch, maps, of_model, generator)
            loss = loss + opt.pose_contrast * contrast
            terms |= {"contrast": contrast, "partners": partners}
        return terms | {"loss": loss}

    def _contrast(
        self, batch: ViewBatch, maps: tuple[Tensor, ...], chosen: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss of poses against everything off the line, at the most curved pixels of either view by itself."""
        views = self.options
        images = batch.images.unflatten(0, (2, -1))[:, chosen]
        points = [curved_points(side, views.points, generator, views.cell) for side in images]
        low, high = views.margin, views.size - 1 - views.margin
        valid = [((xy >= low) & (xy <= high)).all(dim=2) for xy in points]
        own = [self.network.read(m[chosen], xy, views.size) for m, xy in zip(maps, points, strict=True)]
        return epipolar_contrast(
            (own[0], own[1]), (points[0], points[1]), (valid[0], valid[1]), batch.fundamental[chosen], views
        )

    def _epipolar(
        self, maps: tuple[Tensor, ...], fundamental: Tensor, chosen: Tensor, generator: torch.Generator
    ) -> Tensor:
        """PoSFeat's description loss with the line-to-window search on the pairs whose poses are known."""
        size = (self.options.size,) * 2
        search = LineToWindowOptions(
            grid_alignment=getattr(self.network, "grid_alignment", "consistent"),
            sigma="official-code",
            min_variance=1e-5,
        )
        local = [m[chosen] for m in maps]
        forth = fundamental[chosen]
        back = forth.transpose(1, 2)
        points = [query_points(len(forth), size, generator) for _ in range(2)]
        found0 = line_to_window(points[0], local[0], local[1], forth, size, search, generator)
        found1 = line_to_window(points[1], local[1], local[0], back, size, search, generator)
        return description_loss(points[0], points[1], found0, found1, forth, size).total

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of held-out points that no other point or cell outdoes, by kind; views of one photograph are relit."""
        opt = self.options
        self.network.network.eval()
        result = {}
        count = HELD_OUT_PAIRS
        kinds = {"single": (count, 0, 0), "fixed": (0, count, 0), "model": (0, 0, count)}
        has = {"single": True, "fixed": bool(self.held_out.fixed), "model": bool(self.held_out.model)}
        for name, counts in kinds.items():
            rights = []
            for i in range(HELD_OUT_BATCHES if has[name] else 0):
                rng = np.random.default_rng([12345, i])
                generator = torch.Generator(self.device).manual_seed(i)
                plan = self.held_out.plan(rng, counts, opt)
                batch = self.held_out.render(plan, generator, opt)
                images = batch.images if name != "single" else relight(batch.images, generator, 1.0)
                with inference_precision(self.device, opt.precision):
                    dense = self.network.maps(images.contiguous(memory_format=torch.channels_last))
                maps = dense.float().chunk(2)
                own = [self.network.read(m, xy, opt.size) for m, xy in zip(maps, batch.points, strict=True)]
                cells = self.network.cells(dense, opt.size)
                found = map_losses(own[0], own[1], maps[1], cells, batch.points[1], batch.valid, opt)
                rights.append(float(found.right))
            if rights:
                result[f"right_{name}"] = float(np.mean(rights))
        return result
