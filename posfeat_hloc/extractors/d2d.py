"""Describe-to-Detect over HardNet or SOSNet: the paper's grid of cells, or positions below the pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.d2d import SaliencyOptions, top_k
from posfeat_hloc.detection.hessian import hessian_determinant, peaks_of_all
from posfeat_hloc.detection.selection import VISIBLE, candidates, spread_best, textured
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import check_images
from posfeat_hloc.features import Features
from posfeat_hloc.networks import l2net
from posfeat_hloc.networks.inference import fuse_batch_norms, inference_precision
from posfeat_hloc.networks.l2net import interpolate, map_to_pixels, pixels_to_map, read_map
from posfeat_hloc.weights.loading import load_l2net

POSITIONS = ("grid", "hessian")


@dataclass(frozen=True, kw_only=True)
class Options(SaliencyOptions):
    """Options of D2D; the defaults are the paper's."""

    network: str = "hardnet"
    """``hardnet`` or ``sosnet``."""
    weights: str = "hardnet"
    """A bundled or public name, or the path of a checkpoint."""
    max_keypoints: int = 8192
    """K: this many places with the highest scores become keypoints (the paper: about 16 k on Aachen)."""
    average: bool = True
    """S_RS as the mean over a cell's neighbours; False as their sum, eq. 3 as printed, which disfavours the border (460
    of the best 500 keypoints of a photograph stay)."""
    positions: str = "grid"
    """``grid``: keypoints are cells of the map, 4 px apart, as in the paper. ``hessian``: they are peaks of the
    determinant of the Hessian (see :mod:`posfeat_hloc.detection.hessian`), ranked by S_D2D read there."""
    sigmas: Sequence[float] = (1.5, 3.0)
    """``hessian``: Gaussian smoothings in pixels, finest first; peaks of each are candidates, the same place once."""
    peak_radius: int = 2
    """``hessian``: a peak is the largest value within this many pixels on each side."""
    peak_power: float = 0.5
    """``hessian``: places are ranked by S_D2D times the determinant to this power."""
    min_contrast: float = VISIBLE
    """Keypoints lie where the image has at least this contrast nearby, see :mod:`posfeat_hloc.detection.selection`; the
    default leaves out what is all one color."""
    spread: bool = False
    """``hessian``: of more peaks than ``max_keypoints``, keep those that no stronger one is near, see
    :mod:`posfeat_hloc.detection.selection`; False keeps the strongest."""
    scales: Sequence[float] = (1.0,)
    """The image is described at each of these scales, and the best K of all their places are kept; the paper: one."""
    window: int | None = None
    """Side of the local normalisation in pixels; None takes what the weights were trained with, or 33."""
    eps: float | None = None
    """Added to the local deviation; None takes what the weights were trained with, or 1e-7."""
    precision: str = "auto"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it."""


class Extractor:
    """Top-K D2D keypoints and their descriptors, read from one forward pass."""

    grayscale = True
    concurrent = True

    def __init__(self, options: Options, device: torch.device) -> None:
        if options.positions not in POSITIONS:
            raise ConfigurationError(f"positions must be one of {', '.join(POSITIONS)}, not {options.positions!r}")
        options.check()
        if options.peak_radius < 1:
            raise ConfigurationError("peak_radius must be at least 1")
        if options.spread and options.positions == "grid":
            raise ConfigurationError("spread needs positions='hessian': cells of the grid are the paper's choice")
        for name in ("scales", "sigmas"):
            values = getattr(options, name)
            if not values or min(values) <= 0:
                raise ConfigurationError(f"{name} must be positive numbers, at least one, not {values!r}")
        self.options = options
        self.spread = options.spread
        self.device = device
        # on the grid, a true position is anywhere in the cell
        self.detection_noise = l2net.STRIDE / 12**0.5 if options.positions == "grid" else 0.5
        network, self.weights_sha256 = load_l2net(options.network, options.weights, options.window, options.eps)
        self.network = fuse_batch_norms(network).to(device)

    def __call__(self, images: Tensor) -> list[Features]:
        """Extract features of ``(B, 1, H, W)`` images; one shorter than 29 pixels has none."""
        check_images(images, self.grayscale)
        found = [self._extract_at(images.to(self.device), scale) for scale in self.options.scales]
        return [_best_of(list(features), self.options.max_keypoints) for features in zip(*found, strict=True)]

    @torch.inference_mode()
    def _extract_at(self, images: Tensor, scale: float) -> list[Features]:
        """Features of the images resized by a factor, in pixels of the images as they are."""
        height, width = images.shape[-2:]
        if scale != 1:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        if min(images.shape[-2:]) < l2net.MIN_SIZE:
            return [Features.empty(128) for _ in images]
        with inference_precision(self.device, self.options.precision):
            raw = self.network(images).float()
        if self.options.positions == "grid":
            found = detect(raw, self.options, images)
        else:
            found = detect_peaks(raw, images, self.options)
        seen = (images.shape[-1], images.shape[-2])
        return found if seen == (width, height) else [f.scaled(seen, (width, height)) for f in found]


def _best_of(found: list[Features], k: int) -> Features:
    """The k features with the highest scores."""
    if len(found) == 1:
        return found[0]
    together = [np.concatenate([getattr(f, name) for f in found]) for name in ("keypoints", "scores", "descriptors")]
    best = np.argsort(-together[1], kind="stable")[:k]
    return Features(*(values[best] for values in together))


@torch.inference_mode()
def detect(raw: Tensor, options: Options, images: Tensor | None = None) -> list[Features]:
    """Top-K cells of dense maps ``(B, D, h, w)``, with the descriptors there.

    Where the images ``(B, 1, H, W)`` are given, cells of too little contrast are left out.
    """
    scores = options.saliency(raw, options.average)
    if images is not None:
        scores = scores.where(_textured_cells(images, scores, options.min_contrast), -1)  # scores are not negative
    result = []
    for image_map, image_scores in zip(raw, scores, strict=True):
        cells, values = top_k(image_scores, options.max_keypoints)
        cells, values = cells[values >= 0], values[values >= 0]
        descriptors = F.normalize(image_map[:, cells[:, 1], cells[:, 0]].T, dim=1)
        keypoints = map_to_pixels(cells.float())
        result.append(Features(keypoints.cpu().numpy(), values.cpu().numpy(), descriptors.cpu().numpy()))
    return result


@torch.inference_mode()
def detect_peaks(raw: Tensor, images: Tensor, options: Options) -> list[Features]:
    """Top-K peaks of the images' Hessian by S_D2D, with the descriptors read there.

    Args:
        raw: dense maps ``(B, D, h, w)`` of the images.
        images: ``(B, 1, H, W)`` grey in [0, 1].
        options: of D2D.
    """
    scores = options.saliency(raw, options.average)
    responses = torch.stack([hessian_determinant(images, sigma) for sigma in options.sigmas], dim=1)
    textures = textured(images, options.min_contrast)
    last_cell = torch.tensor([raw.shape[-1] - 1, raw.shape[-2] - 1]).to(raw)
    result = []
    for image_map, image_scores, image_responses, allowed in zip(raw, scores, responses, textures, strict=True):
        pixels, strength = peaks_of_all(image_responses, options.peak_radius)
        cells = pixels_to_map(pixels)
        x, y = pixels.round().long().T
        inside = ((cells >= 0) & (cells <= last_cell)).all(dim=1)  # a descriptor is never made up at the border
        inside &= allowed[y, x]
        pixels, strength = pixels[inside], strength[inside]
        saliency = interpolate(image_scores[None], pixels)[:, 0] * strength**options.peak_power
        wanted = candidates(options.max_keypoints, allowed.numel()) if options.spread else options.max_keypoints
        values, best = saliency.topk(min(wanted, len(saliency)))
        keypoints = pixels[best]
        if options.spread:
            keypoints, values = spread_best(keypoints, values, options.max_keypoints)
        descriptors = read_map(image_map[None], [keypoints])
        result.append(Features(keypoints.cpu().numpy(), values.cpu().numpy(), descriptors.cpu().numpy()))
    return result


def _textured_cells(images: Tensor, scores: Tensor, least: float) -> Tensor:
    """Which cells of the map ``(B, h, w)`` lie at places of enough contrast."""
    h, w = scores.shape[-2:]
    x, y = (map_to_pixels(torch.arange(n, device=scores.device).float()).round().long() for n in (w, h))
    return textured(images, least, reach=l2net.STRIDE)[:, y][:, :, x]
