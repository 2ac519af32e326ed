"""PoSFeat: dense descriptors, and keypoints from a network trained on these descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.peaks import SUBPIXEL, find_peaks, refine
from posfeat_hloc.detection.sampling import read_descriptors
from posfeat_hloc.detection.selection import VISIBLE, candidates, spread_best, textured
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import SingleImageExtractor
from posfeat_hloc.features import Features
from posfeat_hloc.networks.inference import fuse_batch_norms, inference_precision
from posfeat_hloc.networks.posfeat import GRID_ALIGNMENTS
from posfeat_hloc.networks.resunet import DIMENSION, MULTIPLE
from posfeat_hloc.networks.tiled_inference import describe, score
from posfeat_hloc.weights.loading import load_posfeat

MAX_RADIUS = 13
"""The smallest image has 16 pixels a side; within its ring, this is as far as reflection goes."""


@dataclass(frozen=True)
class Options:
    """Options of PoSFeat; the defaults are the paper's on HPatches."""

    weights: str = "posfeat"
    """A bundled name, a safetensors file, or a folder with ``backbone.pth`` and ``localheader.pth``."""
    backbone: str | None = None
    """The ResNet inside, e.g. ``resnet50``, or ``small``; None takes what the weights are."""
    grid_alignment: str | None = None
    """How descriptors are read between cells, ``published`` or ``consistent``; None takes what the weights were
    trained with."""
    max_keypoints: int = 8192
    """At most this many; 20480 on Aachen and ETH."""
    radius: int = 1
    """Of the non-maximum suppression in pixels; 3 on Aachen and ETH."""
    threshold: float = 0.9
    """A keypoint's score must be higher; 0.5 on Aachen."""
    reproduce_official: bool = True
    """Repeat what the published code does at borders and with few points: the image is cropped at the right and at the
    bottom to multiples of 16 pixels, reflected copies suppress points at the top and at the left, and with fewer
    than 128 keypoints arbitrary ones are added. False covers the whole image: it is padded by repeating its last row
    and column, all borders are alike, and nothing is added."""
    subpixel: str = "mean"
    """Of a keypoint's place: ``mean`` of the scores around it, as published, or ``quadratic``, their summit."""
    min_contrast: float = VISIBLE
    """Keypoints lie where the image has at least this contrast nearby, see :mod:`posfeat_hloc.detection.selection`; the
    default leaves out what is all one color. The paper, which has no such thing, finds keypoints there, too."""
    spread: bool = False
    """Of more peaks than ``max_keypoints``, keep those that no stronger one is near, see
    :mod:`posfeat_hloc.detection.selection`; False keeps the strongest, as published."""
    precision: str = "auto"
    """Of both networks: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it. bf16 is faster and
    moves or exchanges some keypoints where scores are nearly equal."""
    memory: int = 512
    """MiB for the intermediate results of a tile of rows; an image that needs more is computed in several tiles, with
    the same result. What grows with the image comes on top, at most 110 bytes a pixel."""


class Extractor(SingleImageExtractor):
    """Peaks of the keypoint head's score map, with the description network's descriptors there."""

    dimension = DIMENSION
    concurrent = True

    def __init__(self, options: Options, device: torch.device) -> None:
        if not 1 <= options.radius <= MAX_RADIUS:
            raise ConfigurationError(f"radius must be 1 to {MAX_RADIUS}, not {options.radius}")
        if options.grid_alignment not in (None, *GRID_ALIGNMENTS):
            raise ConfigurationError(
                f"grid_alignment must be {' or '.join(GRID_ALIGNMENTS)}, not {options.grid_alignment!r}"
            )
        if options.subpixel not in SUBPIXEL:
            raise ConfigurationError(f"subpixel must be {' or '.join(SUBPIXEL)}, not {options.subpixel!r}")
        self.options = options
        self.spread = options.spread
        self.device = device
        loaded = load_posfeat(options.weights, options.backbone)
        assert loaded.localheader is not None
        self.backbone = fuse_batch_norms(loaded.backbone).to(device)
        self.head = loaded.localheader.to(device)
        self.grid_alignment = options.grid_alignment or loaded.grid_alignment
        self.weights_sha256 = loaded.sha256

    def _extract(self, image: Tensor) -> Features:
        opt = self.options
        height, width = image.shape[-2:]
        image = crop(image) if opt.reproduce_official else pad(image)
        if image.numel() == 0:
            return Features.empty(self.dimension)
        memory = opt.memory << 20
        with inference_precision(self.device, opt.precision):
            local_map, small = describe(self.backbone, image, memory)
            scores = score(self.head, local_map, small, image, memory)[:height, :width]
        allowed = textured(image, opt.min_contrast)[0, :height, :width]
        peaks = candidates(opt.max_keypoints, height * width) if opt.spread else opt.max_keypoints
        pixels = find_peaks(scores, opt.radius, opt.threshold, peaks, opt.reproduce_official, allowed)
        keypoints, values = refine(scores, pixels, opt.subpixel)
        if opt.spread:
            keypoints, values = spread_best(keypoints, values, opt.max_keypoints)
        descriptors = read_descriptors(local_map[0], keypoints, self.grid_alignment)
        return Features(keypoints.cpu().numpy(), values.cpu().numpy(), descriptors.cpu().numpy())


def crop(image: Tensor) -> Tensor:
    """Cut ``(B, C, H, W)`` at the right and at the bottom to multiples of 16 pixels, as published."""
    height, width = image.shape[-2:]
    return image[..., : height - height % MULTIPLE, : width - width % MULTIPLE]


def pad(image: Tensor) -> Tensor:
    """Repeat the last row and column of ``(B, C, H, W)`` up to multiples of 16 pixels.

    Black padding would be an edge that the keypoint head sees.
    """
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
