"""Batches of warped view pairs with true correspondences, rendered on the device of the photographs (a GPU or the CPU).

Three kinds of pairs: two views of one photograph; two photographs of a fixed camera, related by a homography; and two
photographs of a structure-from-motion model, related by its points and poses. Each view is cut out by a homography of
its own: rotation in the image plane, magnification, slant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import DataError
from posfeat_hloc.networks.small import log_curvatures, to_grey
from posfeat_hloc.training.options import ViewOptions
from posfeat_hloc.training.view_pack import Pack, PackedPair
from posfeat_hloc.training.views import inside, transform

Array = NDArray[np.float64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """What is to be rendered; arrays on the CPU.

    Attributes:
        images: ``(2, B)`` indices of photographs.
        views: ``(2, B, 3, 3)`` view pixels to photograph pixels.
        between: ``(B, 3, 3)`` pixels of photograph 0 to those of photograph 1, the identity within one photograph;
            NaN for pairs of a model.
        points: ``(B, P, 4)`` corresponding pixels of the photographs (pairs of a model), NaN where there is none.
        fundamental: ``(B, 3, 3)`` of the views, NaN where the poses are unknown.
    """

    images: NDArray[np.int64]
    views: Array
    between: Array
    points: NDArray[np.float32]
    fundamental: Array


@dataclass(frozen=True)
class ViewBatch:
    """Rendered pairs; tensors on the device of the photographs.

    Attributes:
        images: ``(2B, 3, S, S)`` RGB in [0, 1]: all first views, then all second ones.
        points: ``(2, B, P, 2)`` corresponding pixels of the views.
        valid: ``(B, P)`` bool, which of these points exist.
        sources: ``(2, B, P, 2)`` the same points in pixels of the photographs.
        photographs: ``(2, B)`` indices.
        fundamental: ``(B, 3, 3)`` with x1^T F x0 = 0 in pixels of the views; NaN where the poses are unknown.
        homography: ``(B, 3, 3)`` pixels of the first view to pixels of the second; NaN for pairs of a model.
    """

    images: Tensor
    points: Tensor
    valid: Tensor
    sources: Tensor
    photographs: Tensor
    fundamental: Tensor
    homography: Tensor


@dataclass
class Shelf:
    """All photographs of a pack on one device, on canvases of one size, and their pairs by group.

    Args:
        pack: photographs and pairs.
        device: where they are kept and rendered.
        keep: which groups are used; all when None.
    """

    pack: Pack
    device: torch.device
    keep: set[str] | None = None
    canvases: Tensor = field(init=False)
    halves: Tensor = field(init=False)
    sizes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Copy the photographs to the device and sort the pairs."""
        images = self.pack.images
        side = max((max(image.shape[:2]) for image in images), default=0)
        side += -side % 16
        self.canvases = torch.empty((len(images), 3, side, side), dtype=torch.uint8, device=self.device)
        for canvas, image in zip(self.canvases, images, strict=True):
            height, width = image.shape[:2]
            padded = np.pad(image, ((0, side - height), (0, side - width), (0, 0)), mode="edge")
            canvas.copy_(torch.from_numpy(padded).permute(2, 0, 1))
        self.halves = torch.cat([F.avg_pool2d(part.float(), 2).round().byte() for part in self.canvases.split(16)])
        self.sizes = torch.tensor([image.shape[1::-1] for image in images], dtype=torch.float32, device=self.device)
        self._choose()

    def of_groups(self, keep: set[str]) -> Shelf:
        """The pairs of other groups over the same photographs, which are not copied again."""
        other = copy(self)
        other.keep = keep
        other._choose()
        return other

    def _choose(self) -> None:
        self.photographs = _by_group(
            (group, i) for i, group in enumerate(self.pack.groups) if self.keep is None or group in self.keep
        )
        chosen = [p for p in self.pack.pairs if self.keep is None or self.pack.groups[p.image0] in self.keep]
        self.fixed = _by_group((self.pack.groups[p.image0], p) for p in chosen if p.homography is not None)
        self.model = _by_group((self.pack.groups[p.image0], p) for p in chosen if p.homography is None)
        if not self.photographs:
            raise DataError("the training pack holds no photograph of the requested groups")

    def plan(self, rng: np.random.Generator, counts: tuple[int, int, int], options: ViewOptions) -> Plan:
        """Draw pairs of single photographs, fixed cameras and models; missing kinds are replaced by the first."""
        pairs: list[PackedPair] = []
        single, fixed, model = counts
        for number, groups in ((fixed, self.fixed), (model, self.model)):
            if not groups:
                single += number
                continue
            for _ in range(number):
                pair = _draw(groups, rng)
                pairs.append(pair if rng.random() < 0.5 else _swap(pair))
        for _ in range(single):
            index = _draw(self.photographs, rng)
            pairs.append(PackedPair(index, index, np.zeros((0, 4), np.float32), np.eye(3)))
        return self._plan(pairs, rng, options)

    def _plan(self, pairs: list[PackedPair], rng: np.random.Generator, options: ViewOptions) -> Plan:
        views = np.empty((2, len(pairs), 3, 3))
        between = np.full((len(pairs), 3, 3), np.nan)
        fundamental = np.full((len(pairs), 3, 3), np.nan)
        points = np.full((len(pairs), options.points, 4), np.nan, np.float32)
        for b, pair in enumerate(pairs):
            sizes = [self.pack.images[i].shape[1::-1] for i in (pair.image0, pair.image1)]
            if pair.homography is not None:
                between[b] = pair.homography
                centre0 = rng.uniform(0.2, 0.8, 2) * sizes[0]
                centres = [centre0, transform(pair.homography, centre0[None])[0]]
            else:
                common = pair.points[rng.integers(len(pair.points))].astype(np.float64)
                centres = [common[:2], common[2:]]
            upright = rng.random() < options.upright
            for side in (0, 1):
                views[side, b] = random_view(rng, centres[side], sizes[side], options, upright, strong=side == 1)
            if pair.homography is None:
                if pair.fundamental is not None:
                    fundamental[b] = views[1, b].T @ pair.fundamental @ views[0, b]
                inverse = np.linalg.inv(views[:, b])
                kept = np.ones(len(pair.points), bool)
                for side in (0, 1):
                    seen = transform(inverse[side], pair.points[:, 2 * side : 2 * side + 2])
                    kept &= inside(seen, options.size, options.size, options.margin)
                chosen = rng.permutation(np.flatnonzero(kept))[: options.points]
                points[b, : len(chosen)] = pair.points[chosen]
        images = np.array([[p.image0 for p in pairs], [p.image1 for p in pairs]])
        return Plan(images, views, between, points, fundamental)

    def render(self, plan: Plan, generator: torch.Generator, options: ViewOptions) -> ViewBatch:
        """Cut out the views of a plan and find their corresponding points."""
        views = torch.from_numpy(plan.views).to(self.device, torch.float32)
        photographs = torch.from_numpy(plan.images).to(self.device)
        images = self._cut(photographs.flatten(), views.flatten(0, 1), options.size)
        inverse = torch.linalg.inv(views)
        stored = torch.from_numpy(plan.points).to(self.device)
        between = torch.from_numpy(plan.between).to(self.device, torch.float32)
        of_model = between.isnan().any(dim=2).any(dim=1)
        between = torch.where(of_model[:, None, None], torch.eye(3, device=self.device), between)
        start = curved_points(images[: len(between)], options.points, generator, options.cell)
        source0 = _map(views[0], start)
        source0 = torch.where(of_model[:, None, None], stored[..., :2], source0)
        source1 = torch.where(of_model[:, None, None], stored[..., 2:], _map(between, source0))
        sources = torch.stack([source0, source1])
        points = torch.stack([_map(inverse[side], sources[side]) for side in (0, 1)])
        limits = self.sizes[photographs][:, :, None] - 1
        low, high = options.margin, options.size - 1 - options.margin
        valid = ((points >= low) & (points <= high) & (sources >= 0) & (sources <= limits)).all(dim=3).all(dim=0)
        points = torch.where(valid[..., None], points, torch.zeros_like(points))
        sources = torch.where(valid[..., None], sources, torch.zeros_like(sources))
        fundamental = torch.from_numpy(plan.fundamental).to(self.device, torch.float32)
        homography = inverse[1] @ between @ views[0]
        homography = torch.where(of_model[:, None, None], torch.full_like(homography, torch.nan), homography)
        return ViewBatch(images, points, valid, sources, photographs, fundamental, homography)

    def _cut(self, indices: Tensor, views: Tensor, size: int) -> Tensor:
        """Views ``(n, 3, size, size)`` of photographs; views that shrink read the photograph at half its size."""
        line = torch.arange(size, device=self.device, dtype=torch.float32)
        pixels = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(1, -1, 2)
        sources = _map(views, pixels.expand(len(views), -1, -1))
        sources = torch.minimum(sources.clamp_min(0), self.sizes[indices][:, None] - 1)
        middle = pixels.new_tensor([[[size / 2, size / 2], [size / 2 + 1, size / 2]]]).expand(len(views), -1, -1)
        shrinks = (_map(views, middle).diff(dim=1).norm(dim=2)[:, 0] > 1.5).tolist()
        result = torch.empty((len(views), 3, size, size), device=self.device)
        for canvases, factor, wanted in ((self.canvases, 1.0, False), (self.halves, 0.5, True)):
            rows = torch.tensor([i for i, small in enumerate(shrinks) if small == wanted], device=self.device).long()
            if len(rows):
                grid = (sources[rows] + 0.5) * (2 * factor / canvases.shape[2]) - 1
                chosen = canvases[indices[rows]].float() / 255
                result[rows] = F.grid_sample(
                    chosen, grid.view(-1, size, size, 2), padding_mode="border", align_corners=False
                )
        return result


def random_view(
    rng: np.random.Generator,
    centre: Array,
    photograph: tuple[int, ...],
    options: ViewOptions,
    upright: bool,
    strong: bool,
) -> Array:
    """A homography from view pixels to pixels of a photograph.

    Args:
        centre: ``(2,)`` pixels of the photograph that the view shows near its middle.
        photograph: (width, height) in pixels.
        upright: nearly no rotation, magnification or slant.
        strong: rotation up to the limit and magnification by a factor of up to two either way; else half of it.
    """
    size = options.size
    base = min(1.4, min(photograph[0], photograph[1]) / size) * rng.uniform(0.8, 1.05)
    limit = options.rotation if strong else options.rotation / 3
    angle = np.deg2rad(np.clip(rng.normal(0, 8), -24, 24) if upright else rng.uniform(-limit, limit))
    reach = 0.25 if upright else (1.0 if strong else 0.4)
    zoom = base * 2 ** rng.uniform(-reach, reach)
    stretch = rng.uniform(1, 1.15 if upright else 1.9)
    across = rng.uniform(0, np.pi)
    slant = rng.uniform(-1, 1, 2) * (0.08 if upright else 0.3)
    shift = rng.uniform(-0.2, 0.2, 2) * size
    squeeze = _rotation(across) @ np.diag([1, 1 / stretch]) @ _rotation(-across)
    linear = zoom * stretch**0.5 * _rotation(angle) @ squeeze
    half = size / 2
    to_middle = np.array([[1, 0, -half - shift[0]], [0, 1, -half - shift[1]], [0, 0, 1]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [slant[0] / size, slant[1] / size, 1]])
    affine = np.array([[*linear[0], centre[0]], [*linear[1], centre[1]], [0, 0, 1]])
    return np.asarray(affine @ perspective @ to_middle)


def curved_points(images: Tensor, count: int, generator: torch.Generator, cell: int = 8) -> Tensor:
    """Random ones of the most curved pixels of all cells, flat cells last, moved by up to half a pixel.

    Args:
        images: ``(B, 3, S, S)``.
        count: points of an image.
        cell: side of a cell in pixels.

    Returns:
        ``(B, count, 2)`` (x, y); (-1, -1) where there are fewer cells.
    """
    curvature = log_curvatures(to_grey(images))[:, :1]
    peaks, index = F.max_pool2d(curvature, cell, return_indices=True)
    peaks, index = peaks.flatten(1), index.flatten(1)
    draw = torch.rand(peaks.shape, generator=generator, device=images.device)
    order = (draw + (peaks > -10.5)).argsort(dim=1, descending=True)[:, :count]
    chosen = index.gather(1, order)
    xy = torch.stack([chosen % images.shape[3], chosen // images.shape[3]], dim=2).float()
    xy = xy + torch.rand(xy.shape, generator=generator, device=images.device) - 0.5
    return F.pad(xy, (0, 0, 0, count - xy.shape[1]), value=-1.0)  # a small view has fewer cells


def _map(matrices: Tensor, points: Tensor) -> Tensor:
    """Homographies ``(B, 3, 3)`` applied to ``(B, N, 2)``."""
    mapped = points @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]
    return mapped[..., :2] / mapped[..., 2:]


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _swap(pair: PackedPair) -> PackedPair:
    homography = None if pair.homography is None else np.asarray(np.linalg.inv(pair.homography), np.float64)
    fundamental = None if pair.fundamental is None else pair.fundamental.T
    calibrations = None if pair.calibrations is None else pair.calibrations[::-1]
    return PackedPair(pair.image1, pair.image0, pair.points[:, [2, 3, 0, 1]], homography, fundamental, calibrations)


def _by_group(items: Iterable[tuple[str, Item]]) -> list[list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for group, item in items:
        groups[group].append(item)
    return list(groups.values())


def _draw(groups: list[list[Item]], rng: np.random.Generator) -> Item:
    """An item of a group; groups are drawn by the square root of their sizes."""
    weights = np.sqrt([len(group) for group in groups])
    group = groups[rng.choice(len(groups), p=weights / weights.sum())]
    return group[rng.integers(len(group))]
