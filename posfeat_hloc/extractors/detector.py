"""A feature of this package behind the calls that users of OpenCV and of XFeat know."""

from __future__ import annotations

from typing import Any, overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.features import Features
from posfeat_hloc.networks.small import to_grey
from posfeat_hloc.runtime.computation import choose_device

KEYPOINT_SIZE = 8.0
"""Diameter in pixels that OpenCV's keypoints are given: these features have one scale."""

Detected = tuple[tuple[cv2.KeyPoint, ...], NDArray[np.float32] | None]


class Detector:
    """Keypoints and descriptors of images in memory, in pixels of the image as it is given: nothing is resized.

        detector = Detector("posfeat-small", max_keypoints=2048)
        keypoints, descriptors = detector.detectAndCompute(cv2.imread("a.jpg"))         # as OpenCV's
        found = detector.detectAndCompute(torch.rand(1, 3, 480, 640))[0]["keypoints"]   # as XFeat's

    Args:
        feature: name in ``posfeat_hloc.confs.extractors``.
        max_keypoints: the conf's when None.
        device: a torch device; ``auto`` takes a GPU when there is one.
        weights: other weights than the conf's: a name or a path.

    Raises:
        ConfigurationError: no such feature or device.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        feature: str = confs.DEFAULT_FEATURE,
        max_keypoints: int | None = None,
        device: str = "auto",
        weights: str | None = None,
    ) -> None:
        if feature not in confs.extractors:
            raise ConfigurationError(f"feature {feature!r} does not exist; choose from {', '.join(confs.extractors)}")
        model = dict(confs.extractors[feature]["model"])
        if max_keypoints is not None:
            model = extractors.with_limit(model, max_keypoints)
        if weights is not None:
            model["weights"] = weights
        self.feature = feature
        self.device = choose_device(device)
        self.extractor = extractors.create(model, self.device)

    @overload
    def detectAndCompute(self, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> Detected: ...

    @overload
    def detectAndCompute(self, image: Tensor, mask: None = None) -> list[dict[str, Tensor]]: ...

    def detectAndCompute(self, image: NDArray[np.uint8] | Tensor, mask: NDArray[np.uint8] | None = None) -> Any:
        """Find keypoints and describe them.

        Args:
            image: ``(H, W, 3)`` BGR or ``(H, W)`` grey uint8, as OpenCV reads images; or a tensor ``(B, 3, H, W)`` RGB
                or ``(B, 1, H, W)`` in [0, 1].
            mask: of an array: ``(H, W)`` uint8, no keypoints where it is 0.

        Returns:
            of an array, as OpenCV: a tuple of ``cv2.KeyPoint`` and descriptors ``(N, D)`` float32, None where there are
            no keypoints. Of a tensor, as XFeat: for each image a dict of ``keypoints (N, 2)``, ``scores (N,)`` and
            ``descriptors (N, D)`` on the detector's device. ``(0, 0)`` is the centre of the top-left pixel in both.

        Raises:
            ConfigurationError: images of another shape or type, or a mask of another size.
        """
        if isinstance(image, Tensor):
            return [self._as_tensors(features) for features in self._extract(_checked(image))]
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ConfigurationError(
                f"an image must be (H, W) grey or (H, W, 3) BGR of uint8, not {image.shape} of {image.dtype}"
            )
        if mask is not None and mask.shape != image.shape[:2]:
            raise ConfigurationError(f"the mask is {mask.shape}, the image {image.shape[:2]}: they must be equal")
        rgb = np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=2))
        (features,) = self._extract(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)
        if mask is not None:
            x, y = np.rint(features.keypoints).astype(int).T
            features = features.chosen(mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)] != 0)
        keypoints = tuple(
            cv2.KeyPoint(float(x), float(y), KEYPOINT_SIZE, -1.0, float(score))
            for (x, y), score in zip(features.keypoints, features.scores, strict=True)
        )
        return keypoints, features.descriptors if len(features) else None

    def _extract(self, images: Tensor) -> list[Features]:
        images = images.to(self.device)
        return self.extractor(to_grey(images) if self.extractor.grayscale else images)

    def _as_tensors(self, features: Features) -> dict[str, Tensor]:
        names = ("keypoints", "scores", "descriptors")
        return {name: torch.from_numpy(getattr(features, name)).to(self.device) for name in names}


def _checked(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` float32."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ConfigurationError(
            f"images must be a float tensor (B, 3, H, W) or (B, 1, H, W) in [0, 1], not {tuple(images.shape)} of "
            f"{images.dtype}"
        )
    return images.float().expand(-1, 3, -1, -1)
