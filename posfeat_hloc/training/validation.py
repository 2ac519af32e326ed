"""How well a PoSFeat network matches held-out posed pairs, as numbers and as images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.detection.peaks import find_peaks, refine
from posfeat_hloc.detection.sampling import cells_to_pixels
from posfeat_hloc.evaluation import drawing
from posfeat_hloc.geometry.epipolar import epipolar_lines, line_distances, symmetric_distances
from posfeat_hloc.images.resampling import Photograph
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.training.correspondence import cosine_volume, describe
from posfeat_hloc.training.posed_batches import as_batch
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.stages import WITH_HEAD

KEYPOINTS = 1024
"""Matched in an image when keypoints are validated."""

NEAR = 2.0
"""Keypoints match rightly when both their epipolar distances are below this, in pixels (PoSFeat's epsilon)."""

NEAR_CELL = 4.0
"""Cells of the dense map match rightly when they are this near, in pixels: a cell is 4 pixels wide."""


@dataclass(frozen=True)
class Matched:
    """Matches of one pair and how far off they are.

    Attributes:
        points0, points1: ``(N, 2)`` pixels.
        epipolar: ``(N,)`` distance to the epipolar line in image 1 (of keypoints: the larger one of both images).
        error: distance to the true partner, NaN where it is not known or not seen.
    """

    points0: NDArray[np.float32]
    points1: NDArray[np.float32]
    epipolar: NDArray[np.float32]
    error: NDArray[np.float64]


@torch.no_grad()
def validate(
    network: PoSFeat, pairs: list[PosedPair], grid_alignment: str, keypoints: bool, precision: str = "fp32"
) -> dict[str, float]:
    """Metrics of a network on fixed pairs, each the mean over pairs.

    Args:
        network: in evaluation mode.
        pairs: held-out.
        grid_alignment: of the map.
        keypoints: whether the head is trained and its keypoints are to be matched, too.
        precision: of the network alone; positions and products of descriptors are computed in float32.

    Returns:
        ``grid_epipolar``: median epipolar distance in pixels of the nearest descriptors of points on a grid;
        ``grid_near``: the part of them within 4 px of their line; ``grid_right``: the part within 4 px of the
        truth, where depth is known; ``grid_score``: the latter where it is known, the former elsewhere.
        With keypoints: ``matches`` of 1024, ``near``: the part of them within 2 px of the line in both images,
        ``near_count``: their number, ``epipolar``: the median distance; ``right``: the part within 3 px of the truth.
    """
    rows = []
    for pair in pairs:
        local_map, scores = _run(network, pair, keypoints, precision)
        grid = match_grid(local_map, pair, grid_alignment)
        row = {"grid_epipolar": float(np.median(grid.epipolar)), "grid_near": float(np.mean(grid.epipolar < NEAR_CELL))}
        row |= _share("grid_right", grid.error, NEAR_CELL)
        row["grid_score"] = row.get("grid_right", row["grid_near"])
        if scores is not None:
            found = match_keypoints(local_map, scores, pair, grid_alignment)
            near = found.epipolar < NEAR
            row |= {"matches": float(len(near)), "near_count": float(near.sum())}
            if len(near):
                row |= {"near": float(near.mean()), "epipolar": float(np.median(found.epipolar))}
                row |= _share("right", found.error, 3.0)
        rows.append(row)
    names = sorted({name for row in rows for name in row})
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def better(stage: str, metrics: dict[str, float]) -> float:
    """The number by which the best checkpoint of a stage is chosen."""
    return metrics["near_count"] if stage in WITH_HEAD else metrics["grid_score"]


def match_grid(local_map: Tensor, pair: PosedPair, grid_alignment: str, spacing: int = 16) -> Matched:
    """The most similar cell of image 1's map for points on a grid in image 0.

    Args:
        local_map: ``(2, D, h, w)`` of both images.
    """
    height, width = pair.image0.shape[:2]
    xs, ys = (np.arange(spacing // 2, side, spacing) for side in (width, height))
    points0 = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2).astype(np.float32)
    queries = torch.from_numpy(points0)[None].to(local_map.device)
    volume = cosine_volume(describe(local_map[:1], queries, (height, width), grid_alignment), local_map[1:])
    best = volume.flatten(2).argmax(dim=-1)[0]
    columns = volume.shape[3]
    cells = torch.stack([best % columns, best // columns], dim=-1).float()
    points1 = cells_to_pixels(cells, (volume.shape[2], columns), (height, width), grid_alignment)[None]
    lines = epipolar_lines(queries, as_batch(pair).fundamental.to(queries))
    distances = line_distances(points1, lines)[0]
    found = points1[0].cpu().numpy()
    return Matched(points0, found, distances.cpu().numpy(), _true_error(pair, points0, found))


def match_keypoints(local_map: Tensor, scores: Tensor, pair: PosedPair, grid_alignment: str) -> Matched:
    """Mutual nearest neighbours of the best 1024 keypoints of either image.

    Args:
        local_map: ``(2, D, h, w)`` of both images.
        scores: ``(2, H, W)``.
    """
    size = pair.image0.shape[:2]
    points, descriptors = [], []
    for dense, heat in zip(local_map, scores, strict=True):
        xy, _ = refine(
            heat, find_peaks(heat, radius=3, threshold=0.0, max_keypoints=KEYPOINTS, reproduce_official=False)
        )
        points.append(xy)
        descriptors.append(describe(dense[None], xy[None], size, grid_alignment)[0])
    if min(len(xy) for xy in points) == 0:
        return Matched(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0))
    similarity = descriptors[0] @ descriptors[1].T
    forth, back = similarity.argmax(dim=1), similarity.argmax(dim=0)
    mutual = (back[forth] == torch.arange(len(forth), device=forth.device)).nonzero()[:, 0]
    points0, points1 = points[0][mutual], points[1][forth[mutual]]
    matrix = as_batch(pair).fundamental.to(points0)
    distances = torch.cat(
        [d.diagonal(dim1=1, dim2=2) for d in symmetric_distances(points0[None], points1[None], matrix)]
    ).amax(dim=0)
    found0, found1 = points0.cpu().numpy(), points1.cpu().numpy()
    return Matched(found0, found1, distances.cpu().numpy(), _true_error(pair, found0, found1))


def _run(network: PoSFeat, pair: PosedPair, with_scores: bool, precision: str) -> tuple[Tensor, Tensor | None]:
    device = next(network.parameters()).device
    batch = as_batch(pair).to(device)
    images = torch.cat([batch.images0, batch.images1])
    with inference_precision(device, precision):
        if not with_scores:  # the head costs more than the description network
            return network.backbone(images).local_map.float(), None
        local_map, scores = network(images)
    return local_map.float(), scores.float()


def look(
    network: PoSFeat, pair: PosedPair, grid_alignment: str, precision: str = "fp32"
) -> tuple[Matched, NDArray[np.float32]]:
    """Matches and score maps ``(2, H, W)`` of one pair, for a drawing."""
    with torch.no_grad():
        local_map, scores = _run(network, pair, True, precision)
        assert scores is not None
        return match_keypoints(local_map, scores, pair, grid_alignment), scores.cpu().numpy()


def _true_error(pair: PosedPair, points0: NDArray[np.float32], points1: NDArray[np.float32]) -> NDArray[np.float64]:
    if pair.depth0 is None:
        return np.full(len(points0), np.nan)
    truth, seen = pair.transfer(points0)
    error: Any = np.linalg.norm(truth - points1, axis=1)
    return np.where(seen, error, np.nan)


def _share(name: str, error: NDArray[np.float64], limit: float) -> dict[str, float]:
    known = ~np.isnan(error)
    return {name: float(np.mean(error[known] < limit))} if known.any() else {}


WORST = 8.0
"""Epipolar distance in pixels that is drawn in full red; zero is green."""


def draw_matches(pair: PosedPair, matched: Matched, most: int = 200) -> Photograph:
    """Both images side by side, a line for each of up to ``most`` matches: green near its epipolar line, else red."""
    kept = slice(None, None, max(1, -(-len(matched.points0) // most)))
    colors = drawing.error_colors(matched.epipolar[kept], WORST)
    return drawing.draw_matches(pair.image0, pair.image1, matched.points0[kept], matched.points1[kept], colors)


def draw_scores(pair: PosedPair, scores: NDArray[np.float32], matched: Matched) -> Photograph:
    """Score maps of both images side by side (bright is high) with the matched keypoints as rings.

    Args:
        scores: ``(2, H, W)``.
    """
    drawn = []
    for heat, points in zip(scores, (matched.points0, matched.points1), strict=True):
        picture = drawing.score_map(heat)
        for x, y in np.round(points).astype(int).tolist():
            cv2.circle(picture, (x, y), 3, (255, 255, 255), 1, cv2.LINE_AA)
        drawn.append(picture)
    return np.concatenate(drawn, axis=1)
