"""Many keypoints against difficult light, on held-out photographs: what weights of `train_descriptors` are chosen by.

    python benchmarks/held_out_views.py --fixed light.h5 --photos photos.h5 --feature posfeat-small --weights A B \\
        --cameras bgscam_v3 bgscam_v7 --group nature --images 10 --pairs 40

Fixed cameras of a pack (`pipelines.pack_views --fixed`): 2048 keypoints. Photographs of a group, against themselves
mildly (near) and strongly (far) warped, with gamma and noise: 8192 keypoints. Mutual matches right within 1 and 3 px,
and their number. Keypoints are the strongest ones: spreading is off, where the feature has it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.evaluation.homography import match_errors
from posfeat_hloc.features import Features
from posfeat_hloc.images.loader import picture_tensor
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.training.view_pack import Pack, read_pack

MATCHER = matchers.create(confs.matchers["NN-mutual"]["model"])
CORNERS = {"near": 0.06, "far": 0.2}
"""How far the corners of a photograph move, at most, as a part of its sides."""


class Extraction:
    """The strongest keypoints of photographs in memory."""

    def __init__(self, feature: str, weights: str) -> None:
        model = dict(confs.extractors[feature]["model"]) | {"weights": weights, "max_keypoints": 8192}
        if "spread" in model:
            model["spread"] = False
        if feature == "posfeat":
            model |= {"reproduce_official": False, "threshold": 0.0}
        self.extractor: Any = extractors.create(model, choose_device("auto"))

    def __call__(self, photograph: NDArray[np.uint8], count: int) -> Features:
        """Features of ``(H, W, 3)`` pixels."""
        tensor = picture_tensor(photograph, {"resize_max": None}, self.extractor.grayscale)
        found: Features = self.extractor(tensor[None])[0]
        return found.chosen(np.argsort(-found.scores, kind="stable")[:count])


def warped(
    photograph: NDArray[np.uint8], kind: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A changed photograph, and the homography from the photograph to it."""
    height, width = photograph.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + rng.uniform(-1, 1, (4, 2)) * CORNERS[kind] * [width, height]
    homography = np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)), np.float64)
    if kind == "far":
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), 0.9)
        homography = np.vstack([turn, [0, 0, 1]]) @ homography
    shown = cv2.warpPerspective(photograph, homography, (width, height), borderMode=cv2.BORDER_REFLECT)
    lit = (shown / np.float32(255)) ** rng.uniform(0.6, 1.6) * 255 + rng.normal(0, 3, shown.shape)
    return np.clip(lit, 0, 255).astype(np.uint8), homography


def right(features0: Features, features1: Features, homography: NDArray[np.float64]) -> list[float]:
    """Shares of matches within 1 and 3 px, and the number within 3 px."""
    pairs = matchers.match(MATCHER, features0, features1).pairs()
    errors = match_errors(features0.keypoints, features1.keypoints, pairs, homography)
    return [float((errors <= 1).mean()), float((errors <= 3).mean()), float((errors <= 3).sum())]


def evaluate(
    extract: Extraction, fixed: Pack, cameras: list[str], pairs: int, photographs: list[Any]
) -> dict[str, Any]:
    """Means over pairs of photographs by kind."""
    rng = np.random.default_rng(0)
    of_cameras = [p for p in fixed.pairs if fixed.groups[p.image0] in cameras and p.homography is not None]
    chosen = [of_cameras[k] for k in rng.permutation(len(of_cameras))[:pairs]]
    features = {i: extract(fixed.images[i], 2048) for i in sorted({i for p in chosen for i in (p.image0, p.image1)})}
    rows = {
        "fixed": [
            right(features[p.image0], features[p.image1], p.homography) for p in chosen if p.homography is not None
        ]
    }
    for kind in CORNERS:
        rng = np.random.default_rng(5)
        rows[kind] = []
        for photograph in photographs:
            changed, homography = warped(photograph, kind, rng)
            rows[kind].append(right(extract(photograph, 8192), extract(changed, 8192), homography))
    return {kind: np.round(np.mean(values, axis=0), 3).tolist() for kind, values in rows.items()}


def main() -> None:
    """Print one JSON line for each file of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", type=Path, required=True, metavar="PACK")
    parser.add_argument("--photos", type=Path, required=True, metavar="PACK")
    parser.add_argument("--cameras", nargs="+", required=True, help="groups of the first pack")
    parser.add_argument("--group", required=True, help="of the second pack")
    parser.add_argument("--feature", default="posfeat-small")
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=40)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    fixed, photos = read_pack(args.fixed), read_pack(args.photos)
    photographs = [image for image, group in zip(photos.images, photos.groups, strict=True) if group == args.group]
    for weights in args.weights:
        found = evaluate(Extraction(args.feature, weights), fixed, args.cameras, args.pairs, photographs[: args.images])
        print(json.dumps({"weights": weights} | found), flush=True)


if __name__ == "__main__":
    main()
