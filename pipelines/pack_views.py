"""Collect photographs and pairs of them for the training of descriptors, in one file.

    python -m pipelines.pack_views --photos photos/* --model sfm/church/sparse/0 church/images \\
        --fixed webcams/* --sessions monthly/* --output views.h5
    python -m pipelines.train_descriptors --pack views.h5 --network small --output runs/descriptors

Single photographs give pairs of warped views. A COLMAP model gives pairs of photographs with common points and poses.
The photographs of a fixed camera are aligned by homographies, along the best chain of pairs, so that noon and midnight
are paired through the hours between. Sessions are photographs of nearly one view whose matches agree with one epipolar
geometry.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.runtime.devices import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.training.view_pack import PackedPair, PackWriter, read_pack

Array = NDArray[np.float64]

MIN_INLIERS = 30
"""Matches that must agree with a homography or an epipolar geometry."""

INLIER = 2.0
"""How well, in pixels of the stored photographs."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, write the pack; returns the exit code."""
    args = _parser().parse_args(argv)
    return exit_code(lambda: _pack_alone(args), args.output, "run the same command again")


def _pack_alone(args: argparse.Namespace) -> bool:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(args.output.parent):
        return pack(args)


def pack(args: argparse.Namespace) -> bool:
    """Write all photographs and pairs, and say how many of each group."""
    if not (args.photos or args.model or args.fixed or args.sessions):
        raise ConfigurationError("nothing to pack: give --photos, --model, --fixed or --sessions")
    with PackWriter(args.output, args.max_size) as writer:
        for folder in args.photos:
            print(f"{folder.name}: {len(_add_folder(writer, folder))} photographs", flush=True)
        if args.model:
            from posfeat_hloc.training.model_pairs import add_model  # pycolmap is needed for models only
        for model, images in args.model:
            pairs = add_model(writer, Path(model), Path(images), args.max_pairs, args.seed)
            print(f"{model}: {pairs} pairs", flush=True)
        extractor = _extractor(args) if args.fixed or args.sessions else None
        for folder in [*args.fixed, *args.sessions]:
            assert extractor is not None
            indices = _add_folder(writer, folder)
            features = [_features(extractor, writer.stored(i)) for i in Bar(indices, desc=folder.name, unit="image")]
            add = _add_fixed if folder in args.fixed else _add_sessions
            print(f"{folder.name}: {add(writer, indices, features)} pairs of {len(indices)} photographs", flush=True)
    whole = read_pack(args.output)
    print(f"wrote {args.output}: {len(whole.images)} photographs, {len(whole.pairs)} pairs")
    return True


def _add_folder(writer: PackWriter, folder: Path) -> list[int]:
    indices = []
    group = folder.parent.name if folder.name == "images" else folder.name
    for name in list_images(folder):
        try:
            image = read_image(folder / name).pixels
        except ImageError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        indices.append(writer.add_image(image, name, group)[0])
    return indices


def _extractor(args: argparse.Namespace) -> Any:
    model = dict(confs.extractors[args.feature]["model"]) | {"max_keypoints": 2048}
    if args.weights:
        model["weights"] = args.weights
    return extractors.create(model, choose_device(args.device))


def _features(extractor: Any, image: NDArray[np.uint8]) -> Features:
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    if extractor.grayscale:
        tensor = tensor.mean(dim=1, keepdim=True)
    return extractor(tensor)[0]


def _matched(features0: Features, features1: Features) -> tuple[Array, Array]:
    matcher = matchers.create(confs.matchers["NN-mutual"]["model"])
    found = matchers.match(matcher, features0, features1).pairs()
    return (
        features0.keypoints[found[:, 0]].astype(np.float64),
        features1.keypoints[found[:, 1]].astype(np.float64),
    )


def _add_fixed(writer: PackWriter, indices: list[int], features: list[Features]) -> int:
    """All pairs of a fixed camera, each photograph aligned along the chain of pairs with most inliers."""
    edges = []
    for a, b in combinations(range(len(indices)), 2):
        xy0, xy1 = _matched(features[a], features[b])
        if len(xy0) < MIN_INLIERS:
            continue
        matrix, mask = cv2.findHomography(xy0, xy1, cv2.USAC_MAGSAC, INLIER, maxIters=5000, confidence=0.9999)
        inliers = 0 if matrix is None else int(mask.sum())
        if inliers >= MIN_INLIERS:
            edges.append((inliers, a, b, np.asarray(matrix, np.float64)))
    edges.sort(key=lambda edge: -edge[0])
    component = list(range(len(indices)))  # Kruskal's maximum spanning forest
    to_root: list[Array] = [np.eye(3) for _ in indices]
    for _, a, b, matrix in edges:
        if component[a] == component[b]:
            continue
        # pixels of b's root from pixels of a's root
        change = to_root[b] @ matrix @ np.linalg.inv(to_root[a])
        old, new = component[a], component[b]
        for i in range(len(indices)):
            if component[i] == old:
                component[i], to_root[i] = new, change @ to_root[i]
    count = 0
    for a, b in combinations(range(len(indices)), 2):
        if component[a] == component[b]:
            matrix = np.linalg.inv(to_root[b]) @ to_root[a]
            empty = np.zeros((0, 4), np.float32)
            writer.add_pair(PackedPair(indices[a], indices[b], empty, matrix / matrix[2, 2]))
            count += 1
    return count


def _add_sessions(writer: PackWriter, indices: list[int], features: list[Features]) -> int:
    """Pairs whose matches agree with one epipolar geometry, by these matches."""
    count = 0
    for a, b in combinations(range(len(indices)), 2):
        xy0, xy1 = _matched(features[a], features[b])
        if len(xy0) < MIN_INLIERS:
            continue
        matrix, mask = cv2.findFundamentalMat(xy0, xy1, cv2.USAC_MAGSAC, 1.0, 0.9999, 5000)
        if matrix is None or mask.sum() < 2 * MIN_INLIERS:
            continue
        inside = mask[:, 0] > 0
        points = np.c_[xy0[inside], xy1[inside]].astype(np.float32)
        writer.add_pair(PackedPair(indices[a], indices[b], points))
        count += 1
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.pack_views", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, nargs="+", default=[], metavar="DIR", help="folders of single photographs")
    add("--model", nargs=2, action="append", default=[], metavar=("MODEL", "IMAGES"),
        help="a COLMAP model and the folder of its images; may be repeated")  # fmt: skip
    add(
        "--fixed",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of photographs of one fixed camera each",
    )
    add("--sessions", type=Path, nargs="+", default=[], metavar="DIR",
        help="folders of photographs of nearly one view each")  # fmt: skip
    add("--feature", default="posfeat-small", help="that aligns fixed cameras and sessions (default: %(default)s)")
    add("--weights", metavar="NAME|FILE", help="of that feature")
    add("--device", default="auto", help="of that feature (default: a GPU if there is one)")
    add(
        "--max-size",
        type=int,
        default=640,
        metavar="PX",
        help="longer side of stored photographs (default: %(default)s)",
    )
    add("--max-pairs", type=int, default=400, metavar="N", help="of one model, drawn at random (default: %(default)s)")
    add("--seed", type=int, default=0, help="of that draw")
    add("--output", type=Path, required=True, metavar="FILE", help="the pack, e.g. views.h5")
    return parser


if __name__ == "__main__":
    sys.exit(main())
