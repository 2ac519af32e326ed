"""Nearest neighbours along epipolar lines, for images whose relative pose is known.

Both images are cut by the pencil of planes through the baseline. Two keypoints can belong to one point in space only
where they lie in the same plane, so each keypoint has an angle in the pencil, and a tolerance, which is wide near the
epipole. Sorted by their angles, a few hundred keypoints of one image meet a few hundred of the other, not all.

Within a band, a keypoint whose point the other image does not see has a mutual nearest neighbour, too, and the geometry
cannot tell it from a right one. How similar such neighbours are is measured on decoys: the same bands beside where they
belong, in which nothing is right (as false discovery rates are estimated elsewhere).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FALSE_SHARE = 0.05
"""Of the matches kept, at most this share is as chance gives it, by the decoys."""

BLOCK = 256
"""Keypoints of one image that are compared at a time."""

_WIDE = 8.0
"""Tolerances above this many times the median are those of keypoints near the epipole."""

_DECOY = 3.0
"""Decoys are this many widths of the band away."""


@dataclass(frozen=True)
class Planes:
    """The epipolar planes of the keypoints of an image.

    Attributes:
        angles: ``(N,)`` float64 radians in (-pi, pi]; NaN for keypoints that no plane belongs to.
        tolerances: ``(N,)`` float64 radians.
    """

    angles: Tensor
    tolerances: Tensor


def match_in_bands(
    descriptors0: Tensor, descriptors1: Tensor, planes0: Planes, planes1: Planes, false_share: float = FALSE_SHARE
) -> tuple[Tensor, Tensor]:
    """Mutual nearest neighbours among keypoints in the same planes, as far as they are more similar than decoys.

    Args:
        descriptors0, descriptors1: ``(N, D)`` and ``(M, D)`` float32, L2-normalised.
        planes0, planes1: of both images; keypoints may match when their angles differ by no more than the sum of their
            tolerances.
        false_share: see :data:`FALSE_SHARE`; 1 keeps all.

    Returns:
        ``(N,)`` int64 indices into image 1, -1 for none, and ``(N,)`` cosines, 0 for none.
    """
    found, cosines = _mutual(descriptors0, descriptors1, planes0, planes1)
    if false_share < 1:
        _, decoys = _mutual(descriptors0, descriptors1, _aside(planes0, planes1), planes1)
        kept = cosines >= threshold(cosines[found >= 0], decoys[decoys > -1], false_share)
        found = torch.where(kept, found, -1)
    return found, torch.where(found >= 0, cosines, 0.0)


def threshold(targets: Tensor, decoys: Tensor, false_share: float) -> float:
    """The lowest cosine above which there are no more than ``false_share`` times as many decoys as matches.

    Args:
        targets, decoys: ``(K,)`` and ``(L,)`` cosines of matches in their bands and beside them.

    Returns:
        one of ``targets``; infinity where no threshold will do.
    """
    ordered = targets.sort(descending=True).values
    above = len(decoys) - torch.searchsorted(decoys.sort().values.contiguous(), ordered.contiguous())
    passed = (above <= false_share * torch.arange(1, len(ordered) + 1)).nonzero()
    return float(ordered[passed[-1, 0]]) if len(passed) else math.inf


def _mutual(descriptors0: Tensor, descriptors1: Tensor, planes0: Planes, planes1: Planes) -> tuple[Tensor, Tensor]:
    """Mutual nearest neighbours within the tolerances: indices, -1 for none, and cosines, -1 for none."""
    n, m = len(descriptors0), len(descriptors1)
    index0, best0 = torch.full((n,), -1), torch.full((n,), -torch.inf)
    index1, best1 = torch.full((m,), -1), torch.full((m,), -torch.inf)
    bands = _Bands(planes1)
    for rows in _blocks(planes0):
        columns = bands.reached_by(planes0, rows)
        if not len(columns):
            continue
        cosines = descriptors0[rows] @ descriptors1[columns].T
        apart = (planes0.angles[rows, None] - planes1.angles[columns]).abs()
        apart = torch.minimum(apart, 2 * math.pi - apart)
        cosines[apart > planes0.tolerances[rows, None] + planes1.tolerances[columns]] = -torch.inf
        best, where = cosines.max(dim=1)
        best0[rows], index0[rows] = best, columns[where]
        best, where = cosines.max(dim=0)
        better = best > best1[columns]
        best1[columns[better]], index1[columns[better]] = best[better], rows[where[better]]
    mutual = (best0 > -torch.inf) & (index1[index0.clamp_min(0)] == torch.arange(n)) if m else torch.zeros(n) > 0
    return torch.where(mutual, index0, -1), torch.where(mutual, best0, -1.0)


def _blocks(planes: Planes) -> list[Tensor]:
    """Keypoints that have a plane, neighbours in the pencil together, those near the epipole by themselves."""
    usable = planes.angles.isfinite()
    wide = _is_wide(planes)
    near = (usable & wide).nonzero()[:, 0]
    others = (usable & ~wide).nonzero()[:, 0]
    others = others[planes.angles[others].argsort()]
    return [block for part in (others, near) if len(part) for block in part.split(BLOCK)]


def _is_wide(planes: Planes) -> Tensor:
    usable = planes.tolerances[planes.angles.isfinite()]
    limit = _WIDE * usable.median() if len(usable) else math.inf
    return planes.tolerances > limit


class _Bands:
    """The keypoints of image 1 in the order of their angles."""

    def __init__(self, planes: Planes) -> None:
        usable, wide = planes.angles.isfinite(), _is_wide(planes)
        self.near = (usable & wide).nonzero()[:, 0]
        others = (usable & ~wide).nonzero()[:, 0]
        self.order = others[planes.angles[others].argsort()]
        self.angles = planes.angles[self.order].contiguous()
        self.tolerance = float(planes.tolerances[self.order].max()) if len(self.order) else 0.0

    def reached_by(self, planes: Planes, rows: Tensor) -> Tensor:
        """All that some keypoint of image 0 may match."""
        angles, tolerances = planes.angles[rows], planes.tolerances[rows]
        low = float((angles - tolerances).min()) - self.tolerance
        high = float((angles + tolerances).max()) + self.tolerance
        if high - low >= 2 * math.pi:
            return torch.cat([self.order, self.near])
        parts = [self.near]
        for turn in (-2 * math.pi, 0.0, 2 * math.pi):  # angles go round
            first = int(torch.searchsorted(self.angles, low + turn))
            last = int(torch.searchsorted(self.angles, high + turn, right=True))
            parts.append(self.order[first:last])
        return torch.cat(parts)


def _aside(planes0: Planes, planes1: Planes) -> Planes:
    """The keypoints of image 0 turned out of their bands, towards the middle of the picture: most find others there."""
    usable = planes0.angles.isfinite()
    if not usable.any():
        return planes0
    angles = planes0.angles[usable]
    ordered = angles.sort().values
    gaps = torch.diff(ordered, append=ordered[:1] + 2 * math.pi)
    start = ordered[(int(gaps.argmax()) + 1) % len(ordered)]  # of the image, after what it does not cover
    along = (angles - start) % (2 * math.pi)
    finite1 = planes1.tolerances[planes1.angles.isfinite()]
    width = planes0.tolerances[usable] + (finite1.median() if len(finite1) else 0.0)
    moved = angles + torch.where(along < along.median(), 1.0, -1.0) * _DECOY * width
    result = planes0.angles.clone()
    result[usable] = torch.remainder(moved + math.pi, 2 * math.pi) - math.pi
    return Planes(result, planes0.tolerances)
