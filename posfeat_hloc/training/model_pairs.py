"""Pairs of photographs with common points and known poses, from a COLMAP model, for a training pack."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.geometry.two_view import epipolar_errors, fundamental_matrix
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.sfm.models import epipolar_distances, read_model
from posfeat_hloc.training.view_pack import PackedPair, PackWriter

Array = NDArray[np.float64]

INLIER = 2.0
"""How well points must agree with the poses, in pixels."""

MAX_ERROR = 2.0
"""Mean reprojection error of the points of a model that are used, in pixels."""


def add_model(writer: PackWriter, folder: Path, images: Path, most: int, seed: int) -> int:
    """Add the photographs of a model with poses, and pairs of them with common points.

    Args:
        writer: of the pack.
        folder: with a COLMAP model (text or binary).
        images: folder of its photographs.
        most: pairs, drawn at random.
        seed: of that draw.

    Returns:
        the number of pairs.
    """
    model = read_model(folder)
    group = images.parent.name if images.name == "images" else images.name
    observed: dict[int, dict[int, Array]] = {image.image_id: {} for image in model.images.values() if image.has_pose}
    for point_id, point in model.points3D.items():
        if point.error <= MAX_ERROR:
            for element in point.track.elements:
                xy = model.images[element.image_id].points2D[element.point2D_idx].xy
                observed[element.image_id][point_id] = np.asarray(xy) - 0.5
    added = {}
    for image_id in sorted(observed):
        name = model.images[image_id].name
        added[image_id] = writer.add_image(read_image(images / name, upright=False).pixels, name, group)
    rng = np.random.default_rng(seed)
    candidates = [
        (i, j) for i, j in combinations(sorted(observed), 2) if len(observed[i].keys() & observed[j].keys()) >= 30
    ]
    count = 0
    for k in rng.permutation(len(candidates)):
        if count == most:
            break
        pair = _model_pair(model, candidates[k], observed, added)
        if pair is not None:
            writer.add_pair(pair)
            count += 1
    return count


def _model_pair(
    model: pycolmap.Reconstruction,
    ids: tuple[int, int],
    observed: dict[int, dict[int, Array]],
    added: dict[int, tuple[int, tuple[float, float]]],
) -> PackedPair | None:
    """Common points that agree with the poses, and the fundamental matrix of the stored photographs."""
    common = sorted(observed[ids[0]].keys() & observed[ids[1]].keys())
    xy = [np.array([observed[i][p] for p in common]) for i in ids]
    names = [model.images[i].name for i in ids]
    near = epipolar_distances(model, names[0], names[1], xy[0], xy[1]) < 2 * INLIER
    calibrations, stored = [], []
    for i, points in zip(ids, xy, strict=True):
        scale = np.array(added[i][1])
        change = np.array([[scale[0], 0, -0.5], [0, scale[1], -0.5], [0, 0, 1]])  # COLMAP's pixels to ours
        calibrations.append(change @ model.cameras[model.images[i].camera_id].calibration_matrix())
        stored.append((points + 0.5) * scale - 0.5)
    relative = model.images[ids[1]].cam_from_world() * model.images[ids[0]].cam_from_world().inverse()
    t = np.asarray(relative.translation)
    if np.linalg.norm(t) < 1e-9:
        return None
    matrix = fundamental_matrix(calibrations[0], calibrations[1], relative.rotation.matrix(), t)
    near &= epipolar_errors(matrix, stored[0], stored[1])[1] < 3 * INLIER  # lens distortion bends lines
    if near.sum() < 20:
        return None
    points = np.c_[stored[0][near], stored[1][near]].astype(np.float32)
    return PackedPair(added[ids[0]][0], added[ids[1]][0], points, None, matrix, np.stack(calibrations))
