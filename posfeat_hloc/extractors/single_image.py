"""What extractors share that take one image after the other: memory does not grow with the number of images."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from posfeat_hloc.extractors import check_images
from posfeat_hloc.features import Features


class SingleImageExtractor(ABC):
    """The loop over images; a feature type says how one image is extracted.

    Attributes:
        device: where its networks are.
        min_size: shortest side in pixels of an image that can be extracted; smaller ones have no keypoints.
        dimension: length of a descriptor.
    """

    grayscale = False
    detection_noise = 1.0
    min_size = 1
    dimension: int
    device: torch.device

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, C, H, W)`` images in [0, 1], one after the other.

        Raises:
            ImageError: see :func:`posfeat_hloc.extractors.check_images`.
        """
        check_images(images, self.grayscale)
        if min(images.shape[-2:]) < self.min_size:
            return [Features.empty(self.dimension) for _ in images]
        with torch.inference_mode():
            return [self._extract(image[None].to(self.device)) for image in images]

    @abstractmethod
    def _extract(self, image: Tensor) -> Features:
        """Features of a ``(1, C, H, W)`` image on the device, in inference mode."""


def features_by_score(keypoints: Tensor, scores: Tensor, descriptors: Tensor, limit: int | None = None) -> Features:
    """``(N, 2)``, ``(N,)`` and ``(N, D)``, the highest scores first; at most ``limit`` of them."""
    order = scores.argsort(descending=True, stable=True)[:limit]
    return Features(*(column[order].float().cpu().numpy() for column in (keypoints, scores, descriptors)))
