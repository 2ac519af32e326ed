"""Matchers: descriptors of two images in, matches out.

A module holds ``Options`` and ``Matcher(options)``; a new matcher is one new module here and one entry in
``confs.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc.confs import module_of, name_of
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import build
from posfeat_hloc.features import Features, Matches

Descriptors = tuple[NDArray[np.floating], NDArray[np.floating]]


class Matcher(Protocol):
    """What every matcher offers.

    One with an attribute ``features``, the model of the features it was trained for, sees where keypoints lie: the last
    two numbers of a descriptor are the keypoint's place; see :func:`with_places`.
    """

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


def match(
    matcher: Matcher,
    features0: Features,
    features1: Features,
    device: str = "cpu",
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> Matches:
    """Match two images.

    Args:
        sizes: (width, height) of both images; needed by matchers that see places.

    Raises:
        ConfigurationError: sizes are missing.
    """
    pair: Descriptors = (features0.descriptors, features1.descriptors)
    if trained_for(matcher) is not None:
        if sizes is None:
            raise ConfigurationError(
                "this matcher sees where keypoints lie: give sizes, (width, height) of both images"
            )
        pair = (
            with_places(features0.descriptors, features0.keypoints, sizes[0]),
            with_places(features1.descriptors, features1.keypoints, sizes[1]),
        )
    return match_batch(matcher, [pair], device)[0]


def trained_for(matcher: Matcher) -> str | None:
    """The model of the features that a matcher was trained for; None for one that takes any descriptors."""
    return getattr(matcher, "features", None)


def with_places(
    descriptors: NDArray[np.floating], keypoints: NDArray[np.floating], size: tuple[int, int], turn: float = 0
) -> NDArray[np.float32]:
    """Descriptors ``(N, D + 2)`` followed by places: pixels from the image's middle in halves of its longer side.

    Args:
        descriptors: ``(N, D)``.
        keypoints: ``(N, 2)`` in pixels.
        size: (width, height) of the image.
        turn: degrees clockwise after which the image was shown to the extractor; places are those of that picture.
    """
    middle, half = np.array(size, np.float32) / 2, max(size) / 2
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rotation = np.round(np.array([[cosine, -sine], [sine, cosine]]), 12)  # exactly zeros and ones for quarter turns
    places = np.clip((keypoints - middle) / half @ rotation.T, -1, 1)  # half a pixel may lie outside
    return np.concatenate([descriptors, places], axis=1, dtype=np.float32)


def check_suits(wanted: str | None, found: dict[str, Any] | None, source: str | Path) -> None:
    """Refuse features that a matcher was not trained for.

    Args:
        wanted: see :func:`trained_for`.
        found: the conf of the features; None, for files of other programs, is let through.
        source: what the message begins with: a file or an option.

    Raises:
        ConfigurationError: it was trained for other features.
    """
    model = (found or {}).get("model", {})
    if wanted is not None and "name" in model and module_of(model) != wanted:
        raise ConfigurationError(
            f"{source}: this LightGlue was trained for {wanted}, not for {name_of(found)}; take another matcher, such "
            "as NN-mutual (no LightGlue is trained for the features of this package)"
        )


@torch.inference_mode()
def match_batch(
    matcher: Matcher,
    pairs: Sequence[Descriptors],
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
