"""SIFT keypoints (OpenCV), RootSIFT, and patches cut in the frames of keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import kornia.feature as KF
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PATCH_MAGNIFICATION = 12.0
"""Side of a patch in units of the keypoint's scale sigma, as the HardNet and SOSNet authors cut SIFT patches."""


@dataclass(frozen=True)
class SiftKeypoints:
    """Keypoints with frames.

    Attributes:
        keypoints: ``(N, 2)`` float32 (x, y) pixels, strongest first.
        scales: ``(N,)`` sigma of the blob in pixels.
        angles: ``(N,)`` orientation in degrees, clockwise in the image from the x axis.
        scores: ``(N,)`` contrast response.
        descriptors: ``(N, 128)`` SIFT histograms, not normalised; None when not asked for.
    """

    keypoints: NDArray[np.float32]
    scales: NDArray[np.float32]
    angles: NDArray[np.float32]
    scores: NDArray[np.float32]
    descriptors: NDArray[np.float32] | None


def detect(
    image: NDArray[np.uint8],
    max_keypoints: int,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    describe: bool = True,
) -> SiftKeypoints:
    """Find the ``max_keypoints`` strongest SIFT keypoints of a grey ``(H, W)`` uint8 image with OpenCV."""
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=max_keypoints,
        contrastThreshold=contrast_threshold,
        edgeThreshold=edge_threshold,
        enable_precise_upscale=True,  # without it, positions are off by a quarter of a pixel
    )
    found = sift.detect(image, None)
    found = sorted(found, key=lambda p: (-p.response, p.pt, p.angle))[:max_keypoints]
    descriptors = None
    if describe:
        descriptors = np.zeros((0, 128), np.float32)
        if found:  # OpenCV 5 fails on an empty list when the image is only a few pixels high
            found, computed = sift.compute(image, found)
            descriptors = np.asarray(computed, np.float32)
    return SiftKeypoints(
        np.array([p.pt for p in found], np.float32).reshape(-1, 2),
        np.array([p.size / 2 for p in found], np.float32),
        np.array([p.angle for p in found], np.float32),
        np.array([p.response for p in found], np.float32),
        descriptors,
    )


def root_sift(histograms: NDArray[np.float32]) -> NDArray[np.float32]:
    """RootSIFT (Arandjelovic and Zisserman 2012): L1-normalise, then take the square root; unit L2 norm."""
    total = np.abs(histograms).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(histograms / np.maximum(total, 1e-12)), np.float32)


def cut_patches(image: Tensor, found: SiftKeypoints, size: int = 32) -> Tensor:
    """Cut upright-normalised patches of ``size`` pixels in the frames of SIFT keypoints.

    Args:
        image: ``(1, 1, H, W)`` grey in [0, 1].
        found: keypoints with scale and orientation.

    Returns:
        ``(N, 1, size, size)``, resampled from an image pyramid by kornia, so without aliasing.
    """
    centers = torch.from_numpy(found.keypoints)[None]
    # kornia's frames hold half the side of a patch; its angles turn the other way than OpenCV's
    scales = torch.from_numpy(found.scales)[None, :, None, None] * (PATCH_MAGNIFICATION / 2)
    angles = -torch.from_numpy(found.angles)[None, :, None]
    frames = KF.laf_from_center_scale_ori(centers, scales, angles)
    return KF.extract_patches_from_pyramid(image, frames.to(image), size)[0]
