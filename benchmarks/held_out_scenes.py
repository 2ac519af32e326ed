"""How well weights match photographs of held-out scenes of a training pack: right matches and relative poses.

    python benchmarks/held_out_scenes.py --pack views.h5 --groups een_07_heidelberg --weights runs/*/weights.safetensors

Whole photographs as stored, 2048 keypoints, mutual nearest neighbours; a match is right when it is within 1, 3 and
5 px of the epipolar line of the model's poses in both photographs. Poses: OpenCV's MAGSAC++ on normalised points, 1 px,
the larger error of rotation and of the direction of translation, area under the curve up to 5, 10 and 20 degrees.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.features import Features
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.training.view_pack import Pack, PackedPair, join, read_pack

LIMITS = (1, 3, 5)


def relative_pose(matrix: np.ndarray, pair: PackedPair) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and direction of translation of an essential matrix, by the points of a pair."""
    assert pair.calibrations is not None
    planes = [
        (np.c_[xy, np.ones(len(xy))] @ np.linalg.inv(K).T)[:, :2]
        for xy, K in zip((pair.points[:, :2], pair.points[:, 2:]), pair.calibrations, strict=True)
    ]
    _, R, t, _ = cv2.recoverPose(matrix, planes[0], planes[1])
    return R, t[:, 0]


def degrees(cosine: float) -> float:
    """Angle of a cosine."""
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def evaluate(pack: Pack, pairs: list[PackedPair], extractor: Any, keypoints: int) -> dict[str, float]:
    """Means over pairs."""
    matcher = matchers.create(confs.matchers["NN-mutual"]["model"])
    cache: dict[int, Features] = {}

    def features(i: int) -> Features:
        if i not in cache:
            image = torch.from_numpy(pack.images[i].copy()).permute(2, 0, 1)[None].float() / 255
            if extractor.grayscale:
                image = (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
            found = extractor(image)[0]
            order = np.argsort(-found.scores, kind="stable")[:keypoints]
            cache[i] = Features(found.keypoints[order], found.scores[order], found.descriptors[order])
        return cache[i]

    rows = []
    for pair in pairs:
        assert pair.fundamental is not None
        assert pair.calibrations is not None
        both = [features(pair.image0), features(pair.image1)]
        found = matchers.match(matcher, *both).pairs()
        xy = [f.keypoints[found[:, k]].astype(np.float64) for k, f in enumerate(both)]
        homogeneous = [np.c_[p, np.ones(len(p))] for p in xy]
        lines1, lines0 = homogeneous[0] @ pair.fundamental.T, homogeneous[1] @ pair.fundamental
        product = np.abs((homogeneous[1] * lines1).sum(axis=1))
        distance = np.maximum(
            *(product / np.linalg.norm(lines[:, :2], axis=1).clip(1e-12) for lines in (lines0, lines1))
        )
        row: dict[str, float] = {"matches": float(len(found))}
        row |= {f"right{limit}": float((distance < limit).sum()) for limit in LIMITS}
        K0, K1 = pair.calibrations
        R, t = relative_pose(K1.T @ pair.fundamental @ K0, pair)
        error = 180.0
        if len(found) >= 8:
            planes = [(h @ np.linalg.inv(K).T)[:, :2] for h, K in zip(homogeneous, pair.calibrations, strict=True)]
            cv2.setRNGSeed(0)
            threshold = 2 / (K0[0, 0] + K1[0, 0])
            matrix, mask = cv2.findEssentialMat(
                planes[0], planes[1], np.eye(3), cv2.USAC_MAGSAC, 0.9999, threshold, 5000
            )
            if matrix is not None and matrix.shape == (3, 3):
                _, own_R, own_t, _ = cv2.recoverPose(matrix, planes[0], planes[1], mask=mask)
                turn = degrees((np.trace(own_R.T @ R) - 1) / 2)
                error = max(turn, degrees(float(own_t[:, 0] @ t)))
        row["error"] = error
        rows.append(row)
    result = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "error"}
    errors = np.sort([row["error"] for row in rows])
    for limit in (5, 10, 20):
        result[f"auc{limit}"] = float(np.mean(np.clip(1 - errors / limit, 0, None)))
    return result


def main() -> None:
    """Print one JSON line for each file of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, nargs="+", required=True)
    parser.add_argument("--groups", nargs="+", required=True, help="held-out scenes")
    parser.add_argument("--feature", default="posfeat-small")
    parser.add_argument("--weights", nargs="+", required=True, help="names or files")
    parser.add_argument("--keypoints", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=40, help="of a scene, drawn at random")
    parser.add_argument("--options", type=json.loads, default={}, help="of the feature, as JSON")
    args = parser.parse_args()
    pack = join([read_pack(path) for path in args.pack])
    rng = np.random.default_rng(0)
    for name in args.weights:
        model = dict(confs.extractors[args.feature]["model"]) | {"weights": name} | args.options
        extractor = extractors.create(model, choose_device("auto"))
        for group in args.groups:
            candidates = [p for p in pack.pairs if pack.groups[p.image0] == group and p.fundamental is not None]
            rng = np.random.default_rng(0)
            pairs = [candidates[k] for k in rng.permutation(len(candidates))[: args.pairs]]
            if pairs:
                found = evaluate(pack, pairs, extractor, args.keypoints)
                told = {key: round(value, 4) for key, value in found.items()}
                print(json.dumps({"weights": name, "group": group, "pairs": len(pairs)} | told), flush=True)


if __name__ == "__main__":
    main()
