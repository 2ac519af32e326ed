"""An extractor for deep-image-matching (github.com/3DOM-FBK/deep-image-matching): any feature of this package.

Copy this file to ``deep_image_matching/extractors/posfeat.py`` of the installed package; the configuration is
``{"extractor": {"name": "posfeat", "feature": "posfeat-small"}, "matcher": {"name": "kornia_matcher"}}``.
"""

import numpy as np
import torch
from deep_image_matching.extractors.extractor_base import ExtractorBase

from posfeat_hloc import confs, extractors
from posfeat_hloc.networks.small import to_grey


class PosfeatExtractor(ExtractorBase):
    """Keypoints, descriptors and scores of an image or of a tile, in its pixels."""

    _default_conf = {"feature": confs.DEFAULT_FEATURE, "max_keypoints": 4096}  # noqa: RUF012
    required_inputs = ["image"]  # noqa: RUF012
    grayscale = False
    descriptor_size = 128

    def __init__(self, config):
        super().__init__(config)
        options = self.config["extractor"]
        model = extractors.with_limit(confs.extractors[options["feature"]]["model"], options["max_keypoints"])
        self._extractor = extractors.create(model, self._device)

    def _extract(self, image: np.ndarray) -> dict:
        """``(H, W, 3)`` BGR in 0 to 255, as OpenCV reads it; descriptors are ``(D, N)``."""
        (found,) = self._extractor(self._frame2tensor(image, self._device))
        return {"keypoints": found.keypoints, "descriptors": found.descriptors.T, "scores": found.scores}

    def _frame2tensor(self, image: np.ndarray, device: str = "cpu") -> torch.Tensor:
        rgb = torch.from_numpy(image[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None].to(device)
        return to_grey(rgb) if self._extractor.grayscale else rgb
