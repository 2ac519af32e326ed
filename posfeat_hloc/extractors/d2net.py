"""D2-Net at one scale or several, and D2D over it: its detections where S_D2D is above its mean (D2D eq. 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.detection.d2d import SaliencyOptions
from posfeat_hloc.detection.peaks import channel_maxima
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extractors import SingleImageExtractor, features_by_score
from posfeat_hloc.features import Features
from posfeat_hloc.networks.d2net import DIMENSION, MIN_SIZE, map_to_pixels, resize_map
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.interpolation import interpolate_cells
from posfeat_hloc.weights.loading import load_d2net


@dataclass(frozen=True, kw_only=True)
class Options(SaliencyOptions):
    """Options of D2-Net; the defaults are its authors', at a single scale."""

    weights: str = "d2net"
    """Path of a checkpoint, such as the authors' ``d2_tf.pth``."""
    scales: Sequence[float] = (1.0,)
    """The image is described at each of these scales, smallest first; the authors' several are 0.5, 1 and 2."""
    max_keypoints: int | None = None
    """The highest scores are kept; None keeps all."""
    d2d: bool = False
    """Keep the detections with S_D2D above its mean over the map."""
    precision: str = "fp32"
    """``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes it. Its coarse rounding makes neighbours and
    channels equal, so that maxima are found that are none."""


class Extractor(SingleImageExtractor):
    """Local maxima of the map's strongest channels, with the descriptors there.

    The authors map positions from a level of the pyramid to the image by the ratio of their sizes; here they go the way
    the pixels came (corner centres on corner centres). From half size that differs by up to a pixel along either axis
    towards the right and the bottom, so by up to 1.4 px in that corner (1.26 px was the most seen in a photograph).
    """

    dimension = DIMENSION
    detection_noise = 1.4
    """About the reprojection error of its points in D2D Table 2."""

    def __init__(self, options: Options, device: torch.device) -> None:
        scales = list(options.scales)
        if not scales or min(scales) <= 0 or sorted(set(scales)) != scales:
            raise ConfigurationError(f"scales must be positive, at least one, smallest first, not {options.scales!r}")
        options.check()
        self.options = options
        self.device = device
        self.network, self.weights_sha256 = load_d2net(options.weights)
        self.network.to(device)

    def _extract(self, image: Tensor) -> Features:
        height, width = image.shape[-2:]
        banned: Tensor | None = None
        found = []
        for number, (dense, level_size) in enumerate(self._levels(image), 1):
            maxima = channel_maxima(dense)
            detected = maxima.detected
            if banned is not None:  # a coarser level has a keypoint here already
                banned = F.interpolate(banned[None, None].float(), detected.shape)[0, 0] > 0
                detected = detected & ~banned
                banned |= detected
            else:
                banned = detected
            if self.options.d2d:
                detected = detected & self._salient(dense)
            y, x = detected.nonzero(as_tuple=True)
            displacement = maxima.displacement[y, x]
            cells = torch.stack([x, y], dim=1) + displacement
            last = torch.tensor([dense.shape[2] - 1, dense.shape[1] - 1]).to(cells)
            good = ((displacement.abs() < 0.5) & (cells >= 0) & (cells <= last)).all(dim=1)
            to_image = torch.tensor([(width - 1) / (level_size[1] - 1), (height - 1) / (level_size[0] - 1)]).to(cells)
            keypoints = map_to_pixels(cells[good]) * to_image
            descriptors = F.normalize(interpolate_cells(dense, cells[good]), dim=1)
            found.append((keypoints, maxima.values[y, x][good] / number, descriptors))
        if not found:
            return Features.empty(self.dimension)
        keypoints, scores, descriptors = (torch.cat(parts) for parts in zip(*found, strict=True))
        return features_by_score(keypoints, scores, descriptors, self.options.max_keypoints)

    def _levels(self, image: Tensor) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """The map ``(512, h, w)`` of each level, to which that of the level before is added, and the level's size."""
        before: Tensor | None = None
        for scale in self.options.scales:
            height, width = (int(side * scale) for side in image.shape[-2:])
            if min(height, width) < MIN_SIZE:
                continue
            level = image if scale == 1 else resize_map(image, height, width)
            with inference_precision(self.device, self.options.precision):
                dense = self.network(level).float()
            if before is not None:
                dense += resize_map(before, *dense.shape[-2:])
            yield dense[0], (height, width)
            before = dense

    def _salient(self, dense: Tensor) -> Tensor:
        saliency = self.options.saliency(dense[None])[0]
        return saliency > saliency.mean()
