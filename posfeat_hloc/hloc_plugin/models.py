"""hloc's base class around an extractor or a matcher of this package; imported by hloc, never without it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from hloc.utils.base_model import BaseModel
from torch import Tensor

from posfeat_hloc import extractors, matchers
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.hloc_plugin.registration import MODEL_PREFIX

MAX_INDEX = 32767
"""hloc writes the indices of matches in 16 bits."""


class ExtractorModel(BaseModel):
    """Any extractor of this package as a model of hloc.

    The conf is that of :func:`posfeat_hloc.extractors.create`. It is built at once, so that missing weights are
    reported before the first image, and again on the device of the first image if that is another one.
    """

    required_inputs = ("image",)

    def _init(self, conf: dict[str, Any]) -> None:
        self._build(torch.device("cpu"))

    def _build(self, device: torch.device) -> None:
        self.device = device
        model = dict(self.conf) | {"name": self.conf["name"].removeprefix(MODEL_PREFIX)}
        self.extractor = extractors.create(model, str(device))
        self.detection_noise = self.extractor.detection_noise

    @torch.no_grad()
    def _forward(self, data: dict[str, Tensor]) -> dict[str, list[Tensor]]:
        """Extract features of ``image (B, C, H, W)`` in [0, 1].

        Returns:
            lists of length B: ``keypoints (N, 2)`` float64 in pixels, ``scores (N,)`` and ``descriptors (D, N)``
            float32. hloc rounds float32 to half precision, half a pixel above x = 512; float64 it stores as it is.

        Raises:
            ConfigurationError: colour images for a method that takes grey ones, or the other way round.
        """
        image = data["image"]
        channels = 1 if self.extractor.grayscale else 3
        if image.shape[1] != channels:
            raise ConfigurationError(
                f"{self.conf['name']} takes images of {channels} channels, not {image.shape[1]}; set grayscale to "
                f"{self.extractor.grayscale} in the conf's preprocessing"
            )
        if image.device != self.device:
            self._build(image.device)
        found = self.extractor(image)
        to = image.device
        return {
            "keypoints": [torch.from_numpy(features.keypoints).double().to(to) for features in found],
            "scores": [torch.from_numpy(features.scores).to(to) for features in found],
            "descriptors": [torch.from_numpy(features.descriptors.T).to(to) for features in found],
        }


class MatcherModel(BaseModel):
    """Any matcher of this package as a model of hloc; the conf is that of :func:`posfeat_hloc.matchers.create`."""

    required_inputs = ("descriptors0", "descriptors1")

    def _init(self, conf: dict[str, Any]) -> None:
        self.matcher = matchers.create(conf)

    @torch.no_grad()
    def _forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Match ``descriptors0 (B, D, N)`` to ``descriptors1 (B, D, M)``.

        Returns:
            ``matches0 (B, N)`` int64, -1 for none, and ``matching_scores0 (B, N)`` float32. Matches to keypoints beyond
            the 32768th are left out, with a warning, because hloc would write them as matches to others.
        """
        descriptors0, descriptors1 = (data[f"descriptors{i}"].float().transpose(1, 2) for i in (0, 1))
        batch, count = descriptors0.shape[:2]
        matches = torch.full((batch, count), -1, dtype=torch.int64, device=descriptors0.device)
        scores = torch.zeros((batch, count), device=descriptors0.device)
        if count and descriptors1.shape[1]:
            matches, scores = self.matcher(descriptors0, descriptors1)
        beyond = matches > MAX_INDEX
        if beyond.any():
            warnings.warn(
                f"{int(beyond.sum())} matches to keypoints beyond {MAX_INDEX} were left out: hloc stores 16 bits. "
                "Extract fewer keypoints, or match with `python -m posfeat_hloc match`, which stores them all",
                stacklevel=2,
            )
            matches, scores = matches.masked_fill(beyond, -1), scores.masked_fill(beyond, 0)
        return {"matches0": matches, "matching_scores0": scores}
