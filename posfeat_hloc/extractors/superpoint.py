"""SuperPoint, and D2D over it: the same score map under a threshold that S_D2D decides (D2D eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.d2d import SaliencyOptions, adapted_threshold
from posfeat_hloc.detection.peaks import greedy_peaks
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import SingleImageExtractor
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.superpoint import DIMENSION, MIN_SIZE, SAMPLING, STRIDE, read_map
from posfeat_hloc.weights.loading import load_superpoint

D2D = ("off", "threshold", "product")


@dataclass(frozen=True, kw_only=True)
class Options(SaliencyOptions):
    """Options of SuperPoint; the defaults are its authors'."""

    weights: str = "superpoint"
    """The authors' file by its public name (noncommercial research use only), or the path of a checkpoint."""
    threshold: float = 0.015
    """A keypoint's score must be higher; hloc's is 0.005."""
    nms_radius: int = 4
    """Of the greedy suppression in pixels."""
    border: int = 4
    """Keypoints nearer than this many pixels to the border are dropped."""
    max_keypoints: int | None = None
    """The highest scores are kept; None keeps all."""
    sampling: str = "published"
    """How descriptors are read between cells: ``published``, or ``consistent`` (hloc's ``fix_sampling``). MMAscore on
    four Oxford-affine sequences: 0.668 and 0.664."""
    d2d: str = "off"
    """``off``: SuperPoint alone. Otherwise eq. 5 of D2D with S_D2D divided by its mean, because the equation depends
    on its size. ``threshold``: SuperPoint's scores must be higher than alpha*. ``product``: scores times S_D2D must be,
    and are what is suppressed and ranked; the paper's words allow both. S_D2D, one value for 8 x 8 pixels, is stretched
    bilinearly. MMAscore as above: 0.668, 0.673 and 0.677, with 1107, 1043 and 1064 keypoints."""
    precision: str = "fp32"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it, which exchanges some keypoints."""


class Extractor(SingleImageExtractor):
    """Peaks of the detector's score map, with the descriptors there."""

    grayscale = True
    min_size, dimension = MIN_SIZE, DIMENSION

    def __init__(self, options: Options, device: torch.device) -> None:
        for name, allowed in (("sampling", SAMPLING), ("d2d", D2D)):
            if getattr(options, name) not in allowed:
                raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}, not {getattr(options, name)!r}")
        options.check()
        if options.nms_radius < 0 or options.border < 0:
            raise ConfigurationError("nms_radius and border must be at least 0")
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_superpoint(options.weights)
        self.network.to(device)

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        with inference_precision(self.device, opt.precision):
            maps = self.network(image)
        scores, threshold = maps.scores[0], opt.threshold
        if opt.d2d != "off":
            saliency = upsampled(opt.saliency(maps.descriptors))[0]
            threshold = adapted_threshold(scores, saliency, threshold)
            scores = scores * saliency if opt.d2d == "product" else scores
        pixels = greedy_peaks(scores, opt.nms_radius, threshold, opt.border, opt.max_keypoints)
        descriptors = read_map(maps.descriptors[0], pixels.float(), opt.sampling)
        values = scores[pixels[:, 1], pixels[:, 0]]
        return Features(pixels.float().cpu().numpy(), values.cpu().numpy(), descriptors.cpu().numpy())


def upsampled(saliency: Tensor) -> Tensor:
    """Saliency of cells ``(B, h, w)`` at every pixel ``(B, 8h, 8w)``, bilinearly, with a mean over the cells of one.

    A saliency that is zero everywhere, of a flat map, decides nothing: it becomes one.
    """
    mean = saliency.mean(dim=(1, 2), keepdim=True)
    relative = torch.where(mean > 0, saliency / mean, torch.ones_like(saliency))
    return F.interpolate(relative[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[:, 0]
