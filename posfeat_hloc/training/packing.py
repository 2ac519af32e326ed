"""Photographs and pairs of them collected for the training of descriptors, in one file.

Single photographs give pairs of warped views. A COLMAP model gives pairs of photographs with common points and poses.
The photographs of a fixed camera are aligned by homographies, along the best chain of pairs, so that noon and midnight
are paired through the hours between. Sessions are photographs of nearly one view whose matches agree with one epipolar
geometry.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.features import Features
from posfeat_hloc.images.decoding import list_images, read_image
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.runtime.reporter import QUIET, Reporter, listener, reporting
from posfeat_hloc.training.options import PackOptions
from posfeat_hloc.training.view_pack import Pack, PackedPair, PackWriter, read_pack

Array = NDArray[np.float64]

MIN_INLIERS = 30
"""Matches that must agree with a homography or an epipolar geometry."""

INLIER = 2.0
"""How well, in pixels of the stored photographs."""


def pack_views(output: Path, args: PackOptions, reporter: Reporter = QUIET) -> Pack:
    """Write all photographs and pairs, and report the number of each group.

    Args:
        output: file to write.
        args: see :class:`PackOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(output.parent), reporting(reporter):
        return _pack(output, args, reporter)


def _pack(output: Path, args: PackOptions, reporter: Reporter) -> Pack:
    if not (args.photos or args.model or args.fixed or args.sessions):
        raise ConfigurationError(
            "nothing to pack: give ",
            Option("photos"),
            ", ",
            Option("model"),
            ", ",
            Option("fixed"),
            " or ",
            Option("sessions"),
        )
    with PackWriter(output, args.max_size) as writer:
        for folder in args.photos:
            reporter.say(f"{folder.name}: {len(_add_folder(writer, folder))} photographs")
        if args.model:
            from posfeat_hloc.training.model_pairs import add_model  # pycolmap is needed for models only
        for model, images in args.model:
            pairs = add_model(writer, Path(model), Path(images), args.max_pairs, args.seed)
            reporter.say(f"{model}: {pairs} pairs")
        extractor = _extractor(args) if args.fixed or args.sessions else None
        for folder in [*args.fixed, *args.sessions]:
            assert extractor is not None
            indices = _add_folder(writer, folder)
            features = [_features(extractor, writer.stored(i)) for i in Bar(indices, desc=folder.name, unit="image")]
            add = _add_fixed if folder in args.fixed else _add_sessions
            reporter.say(f"{folder.name}: {add(writer, indices, features)} pairs of {len(indices)} photographs")
    return read_pack(output)


def _add_folder(writer: PackWriter, folder: Path) -> list[int]:
    indices = []
    group = folder.parent.name if folder.name == "images" else folder.name
    for name in list_images(folder):
        try:
            image = read_image(folder / name).pixels
        except ImageError as error:
            listener().say(f"skipped: {error}")
            continue
        indices.append(writer.add_image(image, name, group)[0])
    return indices


def _extractor(args: PackOptions) -> Any:
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
