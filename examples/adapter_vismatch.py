"""A matcher for vismatch (github.com/gmberton/vismatch): mutual nearest neighbours of any feature of this package.

pip install vismatch posfeat-hloc
python examples/adapter_vismatch.py a.jpg b.jpg

To have it under a name in vismatch, put this file into ``vismatch/im_models`` and the name into ``get_matcher``.
"""

import sys

import torch
from vismatch.base_matcher import BaseMatcher

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.networks.small import to_grey


class PosfeatMatcher(BaseMatcher):
    """Any feature of ``posfeat_hloc.confs`` with the matcher that suits it."""

    def __init__(
        self, device: str = "cpu", feature: str = confs.DEFAULT_FEATURE, max_num_keypoints: int = 2048, **kwargs
    ):
        super().__init__(device, **kwargs)
        model = extractors.with_limit(confs.extractors[feature]["model"], max_num_keypoints)
        self.extractor = extractors.create(model, device)
        self.matcher = matchers.create(confs.matchers[confs.default_matchers[feature]]["model"])

    def _forward(self, img0: torch.Tensor, img1: torch.Tensor) -> tuple:
        """Images ``(3, H, W)`` in [0, 1]; the seven values that vismatch asks for, places in pixels."""
        images = [image[None].float() for image in (img0, img1)]
        found = [self.extractor(to_grey(one) if self.extractor.grayscale else one)[0] for one in images]
        matches = matchers.match(self.matcher, *found, self.device)
        pairs = matches.pairs()
        return (
            found[0].keypoints[pairs[:, 0]],
            found[1].keypoints[pairs[:, 1]],
            *(one.keypoints for one in found),
            *(one.descriptors for one in found),
            matches.scores[pairs[:, 0]],
        )


if __name__ == "__main__":
    result = PosfeatMatcher()(sys.argv[1], sys.argv[2])
    print(f"{len(result['matched_kpts0'])} matches, {result['num_inliers']} agree with one homography")
