"""Which keypoints to keep: the strongest, or strong ones spread over the image, judged by poses and by fixed cameras.

    python benchmarks/keypoint_choice.py --strecha fountain-P11 entry-P10 --light chamonix frankfurt \
        --feature posfeat-small --counts 1024 2048 4096 8192

All keypoints of an image are extracted once, and both rules choose among the same ones. Strecha's sets give relative
poses of image pairs that are up to ``--steps`` images apart: AUC at 1, 5 and 10 degrees, share of matches on their
epipolar lines, and how many these are. Sequences of a fixed camera give the share of matches within 3 px, and their
number, of image k with k + 1 and k + 7.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.detection.selection import spread, strongest
from posfeat_hloc.evaluation.options import RelativePoseOptions
from posfeat_hloc.evaluation.posed_lists import PosedImagePair
from posfeat_hloc.evaluation.relative_pose import estimate_pose, pose_auc, pose_error, precision
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.loader import ImageInputs

RULES: dict[str, Callable[..., NDArray[np.intp]]] = {"strongest": strongest, "spread": spread}
ESTIMATOR = RelativePoseOptions(estimator="pycolmap", threshold=1.5, confidence=0.999)
DEGREES = (1, 5, 10)


def read_camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """K, rotation from the world and centre of a ``.camera`` file."""
    rows = [[float(v) for v in line.split()] for line in path.read_text().splitlines() if line.strip()]
    return np.array(rows[:3]), np.array(rows[4:7]).T, np.array(rows[7])


def posed_pairs(folder: Path, steps: int) -> Iterator[PosedImagePair]:
    """Pairs of images of a Strecha set that are near in the order of their names."""
    names = list_images(folder / "images")
    cameras = {name: read_camera(folder / "cameras" / f"{name}.camera") for name in names}
    for row, a in enumerate(names):
        for b in names[row + 1 : row + 1 + steps]:
            (k0, r0, c0), (k1, r1, c1) = cameras[a], cameras[b]
            yield PosedImagePair(a, b, k0, k1, r1 @ r0.T, r1 @ (c0 - c1))


class Pictures:
    """All features of the images of a folder, extracted once."""

    def __init__(self, feature: str, images: Path, max_size: int) -> None:
        conf = deepcopy(confs.extractors[feature])
        conf["preprocessing"]["resize_max"] = max_size
        model = extractors.with_limit(conf["model"])
        extractor = extractors.create(model | ({"spread": False} if "spread" in model else {}))
        read = ImageInputs(images, None, 0).reader(conf["preprocessing"], extractor.grayscale)
        self.features: dict[str, Features] = {}
        for name in list_images(images):
            loaded = read(name)
            height, width = loaded.tensor.shape[-2:]
            self.features[name] = extractor(loaded.tensor[None])[0].scaled((width, height), loaded.image.size)
        self.matcher = matchers.create(confs.matchers["NN-mutual"]["model"])

    def chosen(self, rule: str, count: int) -> dict[str, Features]:
        """``count`` features of each image."""
        return {n: f.chosen(RULES[rule](f.keypoints, f.scores, count)) for n, f in self.features.items()}

    def matched(self, features0: Features, features1: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Matched keypoints ``(M, 2)`` of two images."""
        rows = matchers.match(self.matcher, features0, features1, "cpu").pairs()
        return features0.keypoints[rows[:, 0]], features1.keypoints[rows[:, 1]]


def poses(pictures: Pictures, folder: Path, rule: str, count: int, steps: int) -> str:
    """Accuracy of relative poses, in a line."""
    features = pictures.chosen(rule, count)
    errors, shares, right = [], [], []
    for pair in posed_pairs(folder, steps):
        points0, points1 = pictures.matched(features[pair.name0], features[pair.name1])
        found = estimate_pose(points0, points1, pair.intrinsics0, pair.intrinsics1, ESTIMATOR)
        errors.append(max(pose_error(found, pair)))
        shares.append(precision(points0, points1, pair))
        right.append(shares[-1] * len(points0))
    areas = " | ".join(f"{area:.3f}" for area in pose_auc(errors, DEGREES))
    return f"{areas} | {np.mean(shares):.3f} | {np.mean(right):.0f}"


def fixed_camera(pictures: Pictures, rule: str, count: int) -> str:
    """Share and number of matches that stay where they are, in a line."""
    features = list(pictures.chosen(rule, count).values())
    shares, right = [], []
    for step in (1, 7):
        for row, first in enumerate(features):
            points0, points1 = pictures.matched(first, features[(row + step) % len(features)])
            near = np.linalg.norm(points0 - points1, axis=1) <= 3
            shares.append(near.mean() if len(near) else 0.0)
            right.append(near.sum())
    return f"{np.mean(shares):.3f} | {np.mean(right):.0f}"


def main() -> None:
    """Print a table for each kind of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strecha", type=Path, nargs="*", default=[], metavar="DIR", help="with images/ and cameras/")
    parser.add_argument("--light", type=Path, nargs="*", default=[], metavar="DIR", help="images of a fixed camera")
    parser.add_argument("--feature", choices=list(confs.extractors), default=confs.DEFAULT_FEATURE)
    parser.add_argument("--counts", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--steps", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--max-size", type=int, default=1024, help="default: %(default)s")
    args = parser.parse_args()
    for folders, head, images in (
        (args.strecha, "AUC@1 | AUC@5 | AUC@10 | precision | right", "images"),
        (args.light, "MMA@3 | right", "."),
    ):
        if folders:
            print(f"\n| images | keypoints | chosen | {head} |\n|" + "---|" * (4 + head.count("|")), flush=True)
        for folder in folders:
            pictures = Pictures(args.feature, folder / images, args.max_size)
            for count in args.counts:
                for rule in RULES:
                    found = (
                        poses(pictures, folder, rule, count, args.steps)
                        if images != "."
                        else fixed_camera(pictures, rule, count)
                    )
                    print(f"| {folder.name} | {count} | {rule} | {found} |", flush=True)


if __name__ == "__main__":
    main()
