"""A feature for image-matching-webui (github.com/Vincentqyw/image-matching-webui), whose package is ``imcui``.

Import it before the interface is started: it puts a model and confs into imcui's copy of hloc. A method of its
``config/app.yaml`` is then ``posfeat-small: {matcher: NN-mutual, feature: posfeat-small, standalone: false, ...}``.
"""

import sys
from copy import deepcopy

import torch
from imcui.hloc import extract_features
from imcui.hloc.utils.base_model import BaseModel

from posfeat_hloc import confs, extractors

MODULE = "imcui.hloc.extractors.posfeat"


class Posfeat(BaseModel):
    """Any extractor of this package; ``options`` is the ``model`` of its conf."""

    default_conf = {"options": confs.extractors[confs.DEFAULT_FEATURE]["model"], "max_keypoints": 4096}  # noqa: RUF012
    required_inputs = ["image"]  # noqa: RUF012

    def _init(self, conf):
        model = extractors.with_limit(dict(conf["options"]), conf["max_keypoints"])
        self.extractor = extractors.create(model, "cuda" if torch.cuda.is_available() else "cpu")

    def _forward(self, data):
        found = self.extractor(data["image"])
        return {
            "keypoints": [torch.from_numpy(one.keypoints) for one in found],
            "scores": [torch.from_numpy(one.scores) for one in found],
            "descriptors": [torch.from_numpy(one.descriptors.T.copy()) for one in found],
        }


Posfeat.__module__ = MODULE  # where imcui looks for it
sys.modules[MODULE] = sys.modules[__name__]
for name in ("posfeat-small", "posfeat", "d2d-hardnet-subpixel"):
    conf = deepcopy(confs.extractors[name])
    model = {"name": "posfeat", "options": conf["model"], "max_keypoints": 4096}
    extract_features.confs[name] = {
        "output": conf["output"], "model": model, "preprocessing": conf["preprocessing"] | {"force_resize": False},
    }  # fmt: skip
