"""Describe-to-Detect: keypoints where dense descriptors are informative and unlike their neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError


def absolute_saliency(raw: Tensor) -> Tensor:
    """S_AS: the standard deviation of each descriptor across its dimensions (D2D eq. 1).

    Args:
        raw: ``(B, D, h, w)`` descriptors *before* L2 normalisation (D2D, section 3.4).

    Returns:
        ``(B, h, w)`` float32.
    """
    return raw.float().std(dim=1, correction=0)


def relative_saliency(descriptors: Tensor, radius: int = 5, step: int = 2, average: bool = True) -> Tensor:
    """S_RS: the mean distance of each descriptor to its neighbours (D2D eq. 3, uniform weights).

    The paper calls r_RS "the size of the window" and finds 5 the best, "20 pixels away (stride 4 times 5)". That is
    read here as offsets -r, -r + step, ..., r in cells along both axes; r = 5 and step 2 give 36 neighbours,
    none of which is the cell itself. Where step does not divide 2r the mirror images of these offsets count too, so
    that the window has no preferred side. Neighbours beyond the border of the map do not count, and the sum of
    eq. 3 is divided by the number of neighbours that do, so that borders are on a par with the interior.

    Distances are symmetric, so only half of the offsets are computed. Memory does not grow with the number of
    neighbours.

    Args:
        descriptors: ``(B, D, h, w)``.
        radius: r_RS in cells of the map.
        step: between the neighbours, in cells.
        average: False leaves out the division, for eq. 3 as printed; cells near the border then score lower.

    Returns:
        ``(B, h, w)`` float32; zero where a cell has no neighbour at all.
    """
    x = descriptors.float().permute(0, 2, 3, 1).contiguous()  # channels last: one distance is one run of memory
    height, width = x.shape[1:3]
    total = x.new_zeros(x.shape[:3])
    count = x.new_zeros((height, width))
    for dy, dx in half_of_offsets(radius, step):
        rows, rows_there = _overlap(height, dy)
        columns, columns_there = _overlap(width, dx)
        if rows.stop < rows.start or columns.stop < columns.start:
            continue
        distance = torch.linalg.vector_norm(x[:, rows, columns] - x[:, rows_there, columns_there], dim=-1)
        total[:, rows, columns] += distance
        total[:, rows_there, columns_there] += distance
        count[rows, columns] += 1
        count[rows_there, columns_there] += 1
    return total / count.clamp_min(1) if average else total


TERMS = ("both", "absolute", "relative")
"""What the score is made of: S_AS S_RS, S_AS or S_RS alone (D2D Table 3)."""


def score_map(
    raw: Tensor,
    radius: int = 5,
    step: int = 2,
    relative_on: str = "raw",
    terms: str = "both",
    average: bool = True,
) -> Tensor:
    """S_D2D = S_AS * S_RS (D2D eq. 4), or one of them.

    Args:
        raw: ``(B, D, h, w)`` descriptors before L2 normalisation.
        radius, step, average: see :func:`relative_saliency`.
        relative_on: compute S_RS on the ``"raw"`` or on the L2-``"normalized"`` descriptors; the paper fixes only
            S_AS.
        terms: one of :data:`TERMS`.
    """
    if relative_on not in ("raw", "normalized"):
        raise ValueError(f"relative_on must be 'raw' or 'normalized', not {relative_on!r}")
    if terms not in TERMS:
        raise ValueError(f"terms must be one of {', '.join(TERMS)}, not {terms!r}")
    if terms == "absolute":
        return absolute_saliency(raw)
    compared = raw if relative_on == "raw" else F.normalize(raw.float(), dim=1)
    relative = relative_saliency(compared, radius, step, average)
    return relative if terms == "relative" else absolute_saliency(raw) * relative


@dataclass(frozen=True)
class SaliencyOptions:
    """Options of S_D2D; the defaults are the paper's."""

    radius: int = 5
    """D2D's r_RS in cells of the map."""
    step: int = 2
    """Step between the neighbours in the window of r_RS."""
    relative_on: str = "raw"
    """S_RS on ``raw`` or L2-``normalized`` descriptors."""
    terms: str = "both"
    """S_D2D from ``both`` saliencies, or from the ``absolute`` or the ``relative`` one alone."""

    def check(self) -> None:
        """Raises ConfigurationError for values that do not exist."""
        if self.terms not in TERMS:
            raise ConfigurationError(f"terms must be one of {', '.join(TERMS)}, not {self.terms!r}")
        if self.radius < 1 or self.step < 1:
            raise ConfigurationError("radius and step must be at least 1")

    def saliency(self, raw: Tensor, average: bool = True) -> Tensor:
        """:func:`score_map` of descriptors ``(B, D, h, w)``."""
        return score_map(raw, self.radius, self.step, self.relative_on, self.terms, average)


def adapted_threshold(scores: Tensor, saliency: Tensor, threshold: float) -> float:
    """The threshold of a detector in the light of S_D2D: alpha* = E[S_D2D S_O] / E[S_O] alpha (D2D eq. 5).

    Args:
        scores: ``(H, W)``, S_O, the detector's own, not negative.
        saliency: ``(H, W)``, S_D2D at the same pixels.
        threshold: alpha.

    Returns:
        alpha*, in units of S_O times those of S_D2D; 0 where all scores are.
    """
    total = scores.double().sum().item()
    return (scores.double() * saliency).sum().item() / total * threshold if total else 0.0


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest cells of one score map, without non-maximum suppression.

    Args:
        scores: ``(h, w)``.
        k: at most this many.

    Returns:
        cells ``(n, 2)`` int64 (x, y), best first, and their scores ``(n,)``.
    """
    values, index = scores.flatten().topk(min(k, scores.numel()))
    width = scores.shape[-1]
    return torch.stack([index % width, index // width], dim=1), values


def half_of_offsets(radius: int, step: int) -> Iterator[tuple[int, int]]:
    """One of each pair (dy, dx), (-dy, -dx); never (0, 0)."""
    if radius < 1 or step < 1:
        raise ValueError(f"radius and step must be at least 1, not {radius} and {step}")
    offsets = range(-radius, radius + 1, step)
    # -r + i*step is symmetric only when step divides 2r; otherwise both halves are needed
    everything = {(dy, dx) for dy in offsets for dx in offsets}
    everything |= {(-dy, -dx) for dy, dx in everything}
    return ((dy, dx) for dy, dx in sorted(everything) if (dy, dx) > (0, 0))


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Where a line of ``size`` cells and the same line moved by ``shift`` overlap: here, and there."""
    low, high = max(0, -shift), min(size, size - shift)
    return slice(low, high), slice(low + shift, high + shift)
