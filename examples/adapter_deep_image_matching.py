"""Any feature of this package in deep-image-matching (github.com/3DOM-FBK/deep-image-matching).

python examples/adapter_deep_image_matching.py --dir PROJECT --pipeline posfeat+kornia_matcher --strategy bruteforce

is its command line with one more pipeline; photographs are in PROJECT/images. In a script, import this file before a
``Config`` is made; release 1.2.4, whose command line is no module, can be used in this way only.
"""

import runpy
import sys

import numpy as np
import torch
from deep_image_matching import config
from deep_image_matching.extractors import extractor_base

from posfeat_hloc import confs, extractors
from posfeat_hloc.networks.small import to_grey

MODULE = "deep_image_matching.extractors.posfeat"
RGB = hasattr(extractor_base, "rasterio")  # version 2 reads images by rasterio, version 1 by OpenCV


class PosfeatExtractor(extractor_base.ExtractorBase):
    """Keypoints, descriptors and scores of an image or of a tile, in its pixels."""

    _default_conf = {"feature": confs.DEFAULT_FEATURE, "max_keypoints": 4096}  # noqa: RUF012
    required_inputs = ["image"]  # noqa: RUF012
    grayscale = False
    descriptor_size = 128
    features_as_half = False  # float16 has steps of half a pixel above x = 512

    def __init__(self, custom_config):
        super().__init__(custom_config)
        options = self.config["extractor"]
        model = extractors.with_limit(confs.extractors[options["feature"]]["model"], options["max_keypoints"])
        self._extractor = extractors.create(model, self._device)

    def _extract(self, image: np.ndarray) -> dict:
        """``(H, W, 3)`` or grey ``(H, W)`` in 0 to 255; descriptors are ``(D, N)``."""
        (found,) = self._extractor(self._frame2tensor(image, self._device))
        return {"keypoints": found.keypoints, "descriptors": found.descriptors.T, "scores": found.scores}

    def _frame2tensor(self, image: np.ndarray, device: str = "cpu") -> torch.Tensor:
        colors = np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :: 1 if RGB else -1]
        rgb = torch.from_numpy(colors.astype(np.float32) / 255).permute(2, 0, 1)[None].to(device)
        return to_grey(rgb) if self._extractor.grayscale else rgb


PosfeatExtractor.__module__ = MODULE  # where deep-image-matching looks for it
sys.modules[MODULE] = sys.modules[__name__]
config.opt_zoo["extractors"].append("posfeat")
config.confs["posfeat+kornia_matcher"] = {
    "extractor": {"name": "posfeat", "feature": confs.DEFAULT_FEATURE, "max_keypoints": 4096},
    "matcher": {"name": "kornia_matcher", "match_mode": "mnn", "th": 0.95},  # th is not used by mnn
}

if __name__ == "__main__":
    runpy.run_module("deep_image_matching", run_name="__main__")
