"""Score maps of features that have one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc.detection.d2d import score_map
from posfeat_hloc.extractors import Extractor, d2d, posfeat, superpoint
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.tiled_inference import describe, score


@torch.inference_mode()
def compute_score_map(extractor: Extractor, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """What an extractor takes keypoints by: S_D2D, PoSFeat's or SuperPoint's detection scores.

    Args:
        extractor: of any feature.
        pixels: ``(h, w, 3)`` RGB.

    Returns:
        ``(h', w')``, of D2D at a quarter of the resolution; None for features without such a map.
    """
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    if extractor.grayscale:
        image = image.mean(dim=1, keepdim=True)
    if isinstance(extractor, d2d.Extractor):
        o = extractor.options
        with inference_precision(extractor.device, o.precision):
            raw = extractor.network(image.to(extractor.device)).float()
        found = score_map(raw, o.radius, o.step, o.relative_on, o.terms)[0]
    elif isinstance(extractor, posfeat.Extractor):
        image = posfeat.pad(image).to(extractor.device)
        with inference_precision(extractor.device, extractor.options.precision):
            local_map, small = describe(extractor.backbone, image, extractor.options.memory << 20)
            found = score(extractor.head, local_map, small, image, extractor.options.memory << 20)
        found = found[: pixels.shape[0], : pixels.shape[1]]
    elif isinstance(extractor, superpoint.Extractor):
        found = extractor.network(image.to(extractor.device)).scores[0]
    else:
        return None
    return found.double().cpu().numpy()
