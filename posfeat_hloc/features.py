"""The values that travel through the package: features of an image, how it was shown, matches of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """Local features of one image.

    Attributes:
        keypoints: ``(N, 2)`` float32 (x, y) in pixels; ``(0, 0)`` is the *centre* of the top-left pixel (hloc's
            convention; only ``mapping/`` adds COLMAP's 0.5).
        scores: ``(N,)`` float32, higher is better.
        descriptors: ``(N, D)`` float32, L2-normalised.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if self.keypoints.shape != (n, 2) or self.scores.shape != (n,) or self.descriptors.shape[:1] != (n,):
            raise ValueError(
                f"keypoints {self.keypoints.shape}, scores {self.scores.shape} and descriptors "
                f"{self.descriptors.shape} do not describe the same N points"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls, dimension: int) -> Features:
        """No features, for images in which there are none."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, dimension), np.float32))

    def chosen(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Features:
        """Some of the features, by a mask ``(N,)`` or by their indices."""
        return Features(self.keypoints[rows], self.scores[rows], self.descriptors[rows])

    def scaled(self, size: tuple[int, int], original: tuple[int, int]) -> Features:
        """Move keypoints found in an image of ``size`` (w, h) to the image of ``original`` (w, h).

        Pixel *areas* are scaled, so ``(x + 0.5) * scale - 0.5``, as hloc does.
        """
        scale = np.array(original, np.float64) / np.array(size, np.float64)
        keypoints = ((self.keypoints + 0.5) * scale - 0.5).astype(np.float32)
        return Features(keypoints, self.scores, self.descriptors)


@dataclass(frozen=True)
class Matches:
    """Matches from the keypoints of image 0 to those of image 1.

    Attributes:
        indices: ``(N0,)`` int64, the keypoint of image 1 for each keypoint of image 0, -1 for none.
        scores: ``(N0,)`` float32 in [0, 1], 0 where there is no match.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.indices.ndim != 1 or self.indices.shape != self.scores.shape:
            raise ValueError(f"indices {self.indices.shape} and scores {self.scores.shape} must be one vector each")

    @classmethod
    def empty(cls, count: int) -> Matches:
        """No match for any of ``count`` keypoints."""
        return cls(np.full(count, -1, np.int64), np.zeros(count, np.float32))

    def pairs(self) -> NDArray[np.int64]:
        """``(M, 2)`` index pairs of the matched keypoints."""
        rows = np.flatnonzero(self.indices >= 0)
        return np.stack([rows, self.indices[rows]], axis=1)

    def reversed(self, count: int) -> Matches:
        """The same matches seen from image 1 with ``count`` keypoints (the best one where several meet)."""
        result = Matches.empty(count)
        rows = np.flatnonzero(self.indices >= 0)
        rows = rows[np.argsort(self.scores[rows], kind="stable")]  # the best is written last
        result.indices[self.indices[rows]] = rows
        result.scores[self.indices[rows]] = self.scores[rows]
        return result


@dataclass(frozen=True)
class View:
    """Rotation and scale of an image for an extractor, in addition to its EXIF tag.

    Attributes:
        rotation: degrees clockwise, a multiple of 45.
        second: size, relative to the usual one, of a second image whose features are added; 0 for none.
    """

    rotation: int = 0
    second: float = 0.0

    def __str__(self) -> str:
        parts = [f"turned by {self.rotation}"] if self.rotation else []  # recorded so
        return ", ".join(parts + ([f"also at {self.second:g}"] if self.second else []))


UPRIGHT = View()
