"""Mean matching accuracy over sequences with known homographies: the protocol of D2-Net, D2D and PoSFeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.evaluation.homography import match_errors, matching_accuracy, mma_score
from posfeat_hloc.evaluation.pairs import Measured, measure_pairs
from posfeat_hloc.evaluation.sequences import ImageSequence
from posfeat_hloc.features import Features, Matches

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
