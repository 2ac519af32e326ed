"""Matchers: descriptors of two images in, matches out.

A module holds ``Options`` and ``Matcher(options)``; a new matcher is one new module here and one entry in
``confs.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.extractors import build
from posfeat_hloc.features import Features, Matches


class Matcher(Protocol):
    """What every matcher offers."""

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor]:
        """Match batches of images with equal numbers of keypoints.

        Args:
            descriptors0: ``(B, N, D)`` float32, L2-normalised, N at least 1.
            descriptors1: ``(B, M, D)``, M at least 1.

        Returns:
            indices ``(B, N)`` int64 into the second image, -1 for none, and scores ``(B, N)`` in [0, 1].
        """


def create(model: dict[str, Any]) -> Matcher:
    """Build the matcher that a conf's ``model`` entry describes; raises ConfigurationError for unknown options."""
    return build(__name__, model)  # type: ignore[no-any-return]


def match(matcher: Matcher, features0: Features, features1: Features, device: str = "cpu") -> Matches:
    """Match two images."""
    return match_batch(matcher, [(features0.descriptors, features1.descriptors)], device)[0]


@torch.inference_mode()
def match_batch(
    matcher: Matcher,
    pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
    device: str | torch.device = "cpu",
) -> list[Matches]:
    """Match pairs of descriptor arrays ``(N, D)``, ``(M, D)``, together where their shapes are equal.

    Images without keypoints give no matches.
    """
    result: list[Matches | None] = [
        Matches.empty(len(d0)) if len(d0) == 0 or len(d1) == 0 else None for d0, d1 in pairs
    ]
    by_shape: dict[tuple[int, int], list[int]] = {}
    for i, (d0, d1) in enumerate(pairs):
        if result[i] is None:
            by_shape.setdefault((len(d0), len(d1)), []).append(i)
    for members in by_shape.values():
        stacked = [torch.from_numpy(np.stack([pairs[i][side] for i in members])).to(device).float() for side in (0, 1)]
        indices, scores = matcher(stacked[0], stacked[1])
        for i, index, score in zip(members, indices.cpu().numpy(), scores.float().cpu().numpy(), strict=True):
            result[i] = Matches(index, score)
    return [matches for matches in result if matches is not None]
