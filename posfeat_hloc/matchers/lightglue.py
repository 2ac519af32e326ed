"""LightGlue (Lindenberger, Sarlin and Pollefeys 2023), by kornia, for the features that its authors trained it for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.weights.kornia_networks import LIGHTGLUE_FORMS, load_lightglue


@dataclass(frozen=True)
class Options:
    """Options of LightGlue; the defaults are its authors'."""

    features: str = "disk"
    """What it was trained for: ``superpoint``, ``disk``, ``aliked`` or ``xfeat`` (LighterGlue)."""
    weights: str = "lightglue-disk"
    """The authors' file for these features by its public name, or the path of a checkpoint."""
    depth_confidence: float | None = None
    """Layers end where this share of the points is certain; -1 runs all. None: 0.95, for XFeat -1."""
    width_confidence: float | None = None
    """Points are dropped that are certain to have no match; -1 keeps all. None: 0.99, for XFeat 0.95."""
    threshold: float = 0.1
    """A match's score must be higher."""


class Matcher:
    """Matches by a transformer that sees descriptors and places, pair by pair. Scores are its probabilities.

    Photographs with an EXIF orientation are seen with the places of their stored pixels: turn them upright first.
    """

    def __init__(self, options: Options) -> None:
        if options.features not in LIGHTGLUE_FORMS:
            raise ConfigurationError(f"features must be one of {', '.join(LIGHTGLUE_FORMS)}, not {options.features!r}")
        self.options = options
        self.features = options.features
        xfeat = options.features == "xfeat"
        depth, width = options.depth_confidence, options.width_confidence
        self._network, self.weights_sha256 = load_lightglue(
            options.weights,
            options.features,
            (-1 if xfeat else 0.95) if depth is None else depth,
            (0.95 if xfeat else 0.99) if width is None else width,
            options.threshold,
        )

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor]:
        """Match ``(B, N, D + 2)`` to ``(B, M, D + 2)``; see :func:`posfeat_hloc.matchers.with_places`."""
        self._network.to(descriptors0.device)
        rows = [
            self._network({"image0": _image(one), "image1": _image(two)})
            for one, two in zip(descriptors0.split(1), descriptors1.split(1), strict=True)
        ]
        found = torch.cat([row["matches0"] for row in rows])
        scores = torch.cat([row["matching_scores0"] for row in rows]).float()
        return found, torch.where(found >= 0, scores, 0)


def _image(described: Tensor) -> dict[str, Any]:
    """LightGlue's input; of a size of 2 x 2 pixels, so that it takes the places as they are."""
    size = torch.full((1, 2), 2.0, device=described.device)
    return {"keypoints": described[..., -2:] + 1, "descriptors": described[..., :-2].contiguous(), "image_size": size}
