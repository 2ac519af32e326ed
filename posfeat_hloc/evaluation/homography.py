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
from posfeat_hloc.stores import FeatureStore

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

HOMOGRAPHY_ERRORS = (1, 3, 5)
"""Pixels up to which an estimated homography counts as right, as in SuperPoint's evaluation."""


def homography_error(
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
    test0: NDArray[np.floating],
    test1: NDArray[np.floating],
) -> float:
    """The mean distance between test points and where the homography that fits the matches sends them.

    The homography is estimated by OpenCV's MAGSAC++ (3 px, 10 000 iterations, confidence 0.9999).

    Args:
        points0, points1: ``(M, 2)`` matched pixels.
        test0, test1: ``(N, 2)`` true pairs of pixels: marked points, or corners of image 0 and their true places.

    Returns:
        pixels of image 1; infinite where no homography is found.
    """
    if len(points0) < 4:
        return float("inf")
    cv2.setRNGSeed(0)
    xy0, xy1 = (np.ascontiguousarray(points, np.float64) for points in (points0, points1))
    try:
        found, _ = cv2.findHomography(xy0, xy1, cv2.USAC_MAGSAC, 3.0, maxIters=10_000, confidence=0.9999)
    except cv2.error:  # degenerate points
        return float("inf")
    if found is None:
        return float("inf")
    distances = np.linalg.norm(project(test0, np.asarray(found, np.float64)) - test1, axis=1)
    return float(distances.mean()) if np.isfinite(distances).all() else float("inf")


@dataclass(frozen=True)
class MmaResult:
    """Accuracy of one feature.

    Attributes:
        curves: group of :data:`GROUPS` -> ``(10,)`` MMA at 1..10 px, mean over its pairs; only groups that have any.
        keypoints: mean over images.
        matches: mean over pairs.
        sequences: name -> ``(10,)`` MMA of one sequence; empty for published curves.
        without_matches: pairs without a match; their accuracy is 0.
        homography: share of the pairs whose estimated homography is right within each of :data:`HOMOGRAPHY_ERRORS`;
            empty for published curves.
    """

    curves: dict[str, NDArray[np.float64]]
    keypoints: float
    matches: float
    sequences: dict[str, NDArray[np.float64]]
    without_matches: int = 0
    homography: tuple[float, ...] = ()

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
    """Match the pairs of each sequence and average the accuracy over pairs.

    Arguments and errors are those of :func:`posfeat_hloc.evaluation.pairs.measure_pairs`.
    """
    tasks = [(s, *pair, h) for s in sequences for pair, h in zip(s.pairs, s.homographies, strict=True)]
    with FeatureStore(features) as store:
        sizes = {s.images[i]: store.image_size(s.images[i]) for s, i, _, _ in tasks}

    def measure(number: int, features0: Features, features1: Features, matches: Matches) -> Measured:
        sequence, first, _, homography = tasks[number]
        pairs = matches.pairs()
        xy0, xy1 = features0.keypoints[pairs[:, 0]], features1.keypoints[pairs[:, 1]]
        errors = match_errors(features0.keypoints, features1.keypoints, pairs, homography)
        return {
            "keypoints": [len(features0), len(features1)],
            "matches": len(pairs),
            "accuracy": matching_accuracy(errors).tolist(),
            "homography": homography_error(
                xy0, xy1, *_test_points(sequence, homography, sizes[sequence.images[first]])
            ),
        }

    measured = measure_pairs(
        features, [(s.images[i], s.images[j]) for s, i, j, _ in tasks], measure,
        [repr([s.marked if s.marked is None else s.marked.tolist(), h.tolist()]) for s, _, _, h in tasks],
        matcher, record, top_k, device, label, progress,
    )  # fmt: skip
    return summarize(sequences, measured)


def _test_points(
    sequence: ImageSequence, homography: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where an estimated homography is judged: at marked points, else at the corners of the first image."""
    if sequence.marked is not None:
        return sequence.marked[:, :2], sequence.marked[:, 2:]
    right, bottom = size[0] - 1.0, size[1] - 1.0
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]])
    return corners, project(corners, homography)


def summarize(sequences: Sequence[ImageSequence], measured: Sequence[Measured]) -> MmaResult:
    """Average over pairs, by group and by sequence."""
    counts = [len(sequence.pairs) for sequence in sequences]
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
        homography=tuple(float(np.mean([m["homography"] <= t for m in measured])) for t in HOMOGRAPHY_ERRORS),
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
