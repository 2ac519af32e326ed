"""Metrics of matches and keypoints under a known homography: MMA, MMAscore, repeatability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.evaluation.pairs import Measured, measure_pairs
from posfeat_hloc.evaluation.sequences import ImageSequence
from posfeat_hloc.features import Features, Matches

THRESHOLDS = np.arange(1, 11)
"""Pixels, as in D2-Net, D2D and PoSFeat."""


def project(points: NDArray[np.floating], homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, 2)`` points through a 3x3 homography; not finite where it sends them to infinity."""
    mapped = np.c_[points.astype(np.float64), np.ones(len(points))] @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)


def match_errors(
    keypoints0: NDArray[np.floating],
    keypoints1: NDArray[np.floating],
    pairs: NDArray[np.int64],
    homography: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance in image 1 between matched keypoints and the forward projection of their partners.

    Args:
        keypoints0, keypoints1: ``(N0, 2)`` and ``(N1, 2)`` (x, y) pixels.
        pairs: ``(M, 2)`` indices of matches.
        homography: 3x3, image 0 to image 1.

    Returns:
        ``(M,)`` pixels; not finite where the homography sends a point to infinity, which no threshold reaches.
    """
    distances = np.linalg.norm(project(keypoints0[pairs[:, 0]], homography) - keypoints1[pairs[:, 1]], axis=1)
    return np.asarray(distances, np.float64)


def matching_accuracy(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """MMA of one pair at 1..10 px: the share of matches within each threshold; zero without matches."""
    if len(errors) == 0:
        return np.zeros(len(THRESHOLDS))
    return np.asarray((errors[None] <= THRESHOLDS[:, None]).mean(axis=1), np.float64)


def mma_score(curve: NDArray[np.float64]) -> float:
    """MMAscore: the mean of an MMA curve at 1..10 px, weighted by 2 - 0.1 threshold (PoSFeat eq. 12)."""
    weights = 2 - 0.1 * THRESHOLDS
    return float((weights * curve).sum() / weights.sum())


GROUPS = ("overall", "illumination", "viewpoint")


@dataclass(frozen=True)
class MmaResult:
    """Accuracy of one feature.

    Attributes:
        curves: group of :data:`GROUPS` -> ``(10,)`` MMA at 1..10 px, mean over its pairs; only groups that have any.
        keypoints: mean over images.
        matches: mean over pairs.
        sequences: name -> ``(10,)`` MMA of one sequence; empty for published curves.
        without_matches: pairs without a match; their accuracy is 0.
    """

    curves: dict[str, NDArray[np.float64]]
    keypoints: float
    matches: float
    sequences: dict[str, NDArray[np.float64]]
    without_matches: int = 0

    @property
    def ratio(self) -> float:
        """Mutual matches for each keypoint (D2D figure 4); 0 without keypoints."""
        return self.matches / self.keypoints if self.keypoints else 0.0

    @property
    def mean(self) -> float:
        """Mean of the overall curve over 1 to 10 px, in percent (D2D Table 3)."""
        return 100 * float(self.curves["overall"].mean())

    def score(self, group: str) -> float | None:
        """MMAscore of a group (PoSFeat eq. 12); None when it has no pairs."""
        return mma_score(self.curves[group]) if group in self.curves else None


def evaluate_mma(
    features: Path,
    sequences: Sequence[ImageSequence],
    matcher: dict[str, Any],
    record: Path,
    top_k: int | None = None,
    device: str = "auto",
    label: str = "",
    progress: bool = True,
) -> MmaResult:
    """Match the first image of each sequence with the others and average the accuracy over pairs.

    Arguments and errors are those of :func:`posfeat_hloc.evaluation.pairs.measure_pairs`.
    """
    tasks = [(s, i) for s in sequences for i in range(1, len(s.images))]
    homographies = [s.homographies[i - 1] for s, i in tasks]

    def measure(number: int, features0: Features, features1: Features, matches: Matches) -> Measured:
        pairs = matches.pairs()
        errors = match_errors(features0.keypoints, features1.keypoints, pairs, homographies[number])
        return {
            "keypoints": [len(features0), len(features1)],
            "matches": len(pairs),
            "accuracy": matching_accuracy(errors).tolist(),
        }

    measured = measure_pairs(
        features, [(s.images[0], s.images[i]) for s, i in tasks], measure, [repr(h.tolist()) for h in homographies],
        matcher, record, top_k, device, label, progress,
    )  # fmt: skip
    return summarize(sequences, measured)


def summarize(sequences: Sequence[ImageSequence], measured: Sequence[Measured]) -> MmaResult:
    """Average over pairs, by group and by sequence."""
    counts = [len(sequence.images) - 1 for sequence in sequences]
    accuracy = np.array([m["accuracy"] for m in measured])
    blocks = np.split(accuracy, np.cumsum(counts)[:-1])
    firsts = np.cumsum([0, *counts[:-1]])
    keypoints = [measured[i]["keypoints"][0] for i in firsts] + [m["keypoints"][1] for m in measured]
    chosen = {group: [s.change == group or group == "overall" for s in sequences] for group in GROUPS}
    return MmaResult(
        curves={
            group: np.concatenate([block for block, is_in in zip(blocks, inside, strict=True) if is_in]).mean(axis=0)
            for group, inside in chosen.items()
            if any(inside)
        },
        keypoints=float(np.mean(keypoints)),
        matches=float(np.mean([m["matches"] for m in measured])),
        sequences={s.name: block.mean(axis=0) for s, block in zip(sequences, blocks, strict=True)},
        without_matches=sum(m["matches"] == 0 for m in measured),
    )


THRESHOLD = 3.0
"""Pixels; the usual one for points. D2D's Table 5 does not print its own."""


def repeatability(
    keypoints0: NDArray[np.floating],
    keypoints1: NDArray[np.floating],
    homography: NDArray[np.float64],
    size0: tuple[int, int],
    size1: tuple[int, int],
    threshold: float = THRESHOLD,
) -> float:
    """The share of keypoints in the common part of both images that are found in both.

    As Mikolajczyk et al. (2005), for points in place of regions: pairs that are each other's nearest and lie at most
    ``threshold`` apart in image 1, divided by the smaller number of keypoints in the common part. 0 where one image
    has none there.

    Args:
        keypoints0, keypoints1: ``(N0, 2)`` and ``(N1, 2)`` (x, y) pixels.
        homography: 3x3, image 0 to image 1.
        size0, size1: (width, height).
        threshold: in pixels of image 1.
    """
    there = project(keypoints0, homography)
    back = project(keypoints1, np.asarray(np.linalg.inv(homography), np.float64))
    seen0 = there[_inside(there, size1)]
    seen1 = np.asarray(keypoints1, np.float64)[_inside(back, size0)]
    if min(len(seen0), len(seen1)) == 0:
        return 0.0
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(seen0.astype(np.float32), seen1.astype(np.float32))
    return sum(pair.distance <= threshold for pair in pairs) / min(len(seen0), len(seen1))


def _inside(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points <= np.array(size) - 1)).all(axis=1), np.bool_)
