"""Features side by side in one run: changing light, Oxford-affine, relative poses of Strecha's sets.

    python benchmarks/descriptors.py --data DATA --features posfeat-small disk:weights=FILE --output results.jsonl

DATA holds the folders `light` (fixed cameras; sorted names k against k + 1, k + 7, k + 13, cyclic; 4096 keypoints; the
true transformation is the identity), `affine` (8192 keypoints, MMAscore as pipelines.hpatches) and `strecha` (2048
keypoints, long side 1024, pairs at most four photographs apart; pycolmap's essential matrix, 1.5 px of the stored
photographs; the larger error of rotation and translation, median over seeds). Mutual nearest neighbours everywhere.
Each finished part is appended to the output; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from keypoint_choice import posed_pairs

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.evaluation.homography import matching_accuracy, mma_score, project
from posfeat_hloc.evaluation.options import RelativePoseOptions
from posfeat_hloc.evaluation.relative_pose import estimate_pose, pose_auc, pose_error
from posfeat_hloc.evaluation.sequences import find_sequences
from posfeat_hloc.extractors.choice import choose_features
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.images.loader import picture_tensor
from posfeat_hloc.runtime.computation import choose_device

LIGHT_STEPS = (1, 7, 13)
MATCHER = matchers.create(confs.matchers["NN-mutual"]["model"])


class Extraction:
    """A feature's strongest keypoints of photographs, in pixels of the stored ones.

    Args:
        conf: of the feature.
        keypoints: at most.
        long_side: of what the network sees; the photograph's own when None.
    """

    def __init__(self, conf: confs.Conf, keypoints: int, long_side: int | None = None) -> None:
        model = dict(conf["model"]) | {"max_keypoints": keypoints}
        self.extractor: Any = extractors.create(model, choose_device("auto"))
        self.long_side = long_side

    def __call__(self, path: Path) -> Features:
        """Features of one photograph."""
        pixels = read_image(path).pixels
        preprocessing = {"resize_max": self.long_side}
        tensor = picture_tensor(pixels, preprocessing, self.extractor.grayscale)
        found: Features = self.extractor(tensor[None])[0]
        return found.scaled((tensor.shape[2], tensor.shape[1]), (pixels.shape[1], pixels.shape[0]))


def matched(features0: Features, features1: Features) -> tuple[np.ndarray, np.ndarray]:
    """Matched keypoints."""
    found = matchers.match(MATCHER, features0, features1).pairs()
    return features0.keypoints[found[:, 0]], features1.keypoints[found[:, 1]]


def light(conf: confs.Conf, folder: Path) -> dict[str, Any]:
    """MMA of fixed cameras."""
    extract = Extraction(conf, 4096)
    result: dict[str, Any] = {}
    curves, rights = [], []
    for view in sorted(p for p in folder.iterdir() if p.is_dir()):
        features = [extract(view / name) for name in list_images(view)]
        own = []
        for i, first in enumerate(features):
            for step in LIGHT_STEPS:
                xy0, xy1 = matched(first, features[(i + step) % len(features)])
                errors = np.linalg.norm(xy0 - xy1, axis=1)
                own.append(matching_accuracy(errors))
                rights.append(int((errors <= 3).sum()))
        result[view.name] = round(float(np.mean(own, axis=0)[2]), 4)
        curves += own
    mean = np.mean(curves, axis=0)
    return result | {"mma1": round(float(mean[0]), 4), "mma3": round(float(mean[2]), 4), "right": np.mean(rights)}


def affine(conf: confs.Conf, folder: Path) -> dict[str, Any]:
    """MMAscore of planar sequences."""
    extract = Extraction(conf, 8192)
    result: dict[str, Any] = {}
    curves = []
    for sequence in find_sequences(folder).sequences:
        features = [extract(folder / name) for name in sequence.images]
        own = []
        for other, homography in zip(features[1:], sequence.homographies, strict=True):
            xy0, xy1 = matched(features[0], other)
            own.append(matching_accuracy(np.linalg.norm(project(xy0, homography) - xy1, axis=1)))
        result[sequence.name] = round(float(np.mean([mma_score(curve) for curve in own])), 4)
        curves += own
    mean = np.mean(curves, axis=0)
    score = round(mma_score(mean), 4)
    return result | {"mma1": round(float(mean[0]), 4), "mma3": round(float(mean[2]), 4), "score": score}


def strecha(conf: confs.Conf, folder: Path, seeds: int) -> dict[str, Any]:
    """AUC of relative poses."""
    extract = Extraction(conf, 2048, 1024)
    errors: list[float] = []
    for scene in sorted(p for p in folder.iterdir() if p.is_dir()):
        features = {name: extract(scene / "images" / name) for name in list_images(scene / "images")}
        for pair in posed_pairs(scene, 4):
            xy0, xy1 = matched(features[pair.name0], features[pair.name1])
            own = []
            for seed in range(seeds):
                options = RelativePoseOptions(estimator="pycolmap", threshold=1.5, seed=seed)
                found = estimate_pose(xy0, xy1, pair.intrinsics0, pair.intrinsics1, options)
                own.append(max(pose_error(found, pair)))
            errors.append(float(np.median(own)))
    auc = pose_auc(errors, (1, 5))
    return {"auc1": round(auc[0], 4), "auc5": round(auc[1], 4), "pairs": len(errors)}


def main() -> None:
    """Measure what the output does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--features", nargs="+", required=True, help="NAME or NAME:OPTION=VALUE:...")
    parser.add_argument("--parts", nargs="+", default=["light", "strecha", "affine"])
    parser.add_argument("--seeds", type=int, default=3, help="of the pose estimation")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    done = set()
    if args.output.exists():
        done = {(r["feature"], r["part"]) for r in map(json.loads, args.output.read_text().splitlines())}
    torch.set_grad_enabled(False)
    for choice in choose_features(args.features):
        assert choice.conf is not None
        for part in args.parts:
            if (choice.label, part) in done:
                continue
            if part == "strecha":
                found = strecha(choice.conf, args.data / part, args.seeds)
            else:
                found = {"light": light, "affine": affine}[part](choice.conf, args.data / part)
            line = json.dumps({"feature": choice.label, "part": part} | found)
            print(line, flush=True)
            with args.output.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
