"""Writing models, keypoints and matches into COLMAP databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pycolmap

from posfeat_hloc.errors import StoreError
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair

MIN_MATCHES = 15
"""Pairs with fewer matches are left out: COLMAP would reject them, and a file of all pairs has very many."""


def import_cameras(db: pycolmap.Database, model: pycolmap.Reconstruction) -> dict[str, int]:
    """Write cameras and images with the ids of the model; returns image name -> id."""
    for camera in model.cameras.values():
        camera.has_prior_focal_length = True  # model files do not say so, and without it RANSAC would ignore intrinsics
        db.write_camera(camera, use_camera_id=True)
    for rig in model.rigs.values():
        db.write_rig(rig, use_rig_id=True)
    for frame in model.frames.values():
        db.write_frame(frame, use_frame_id=True)
    for image in model.images.values():
        db.write_image(image, use_image_id=True)
    return {image.name: image.image_id for image in model.images.values()}


def import_keypoints(db: pycolmap.Database, features: FeatureStore, ids: Mapping[str, int]) -> dict[str, int]:
    """Write keypoints, with COLMAP's half pixel, of images that have features.

    Args:
        ids: image name -> id in the database.

    Returns:
        image name -> number of its keypoints.
    """
    counts = {}
    for name, image_id in ids.items():
        keypoints = features.keypoints(name)[:, :2] if name in features else np.zeros((0, 2), np.float32)
        counts[name] = len(keypoints)
        if len(keypoints):
            db.write_keypoints(image_id, keypoints + np.float32(0.5))
    return counts


def import_matches(
    db: pycolmap.Database,
    matches: MatchStore,
    ids: Mapping[str, int],
    pairs: Sequence[Pair],
    counts: Mapping[str, int],
    progress: bool = True,
) -> None:
    """Write the matches of pairs that have enough of them to be verified.

    Pairs are read one after the other: memory does not grow with their number.

    Args:
        db: with the images of the pairs.
        matches: where they are read.
        ids: image name -> id in the database.
        pairs: image names.
        counts: image name -> number of its keypoints, where known.
        progress: show a bar.

    Raises:
        StoreError: matches are missing, or name keypoints that are not there.
    """
    for name0, name1 in Bar(pairs, desc="import", unit="pair", disable=not progress):
        indices = matches.read(name0, name1, counts.get(name0)).pairs()
        last0, last1 = indices.max(axis=0) if len(indices) else (-1, -1)
        if last0 >= counts.get(name0, last0 + 1) or last1 >= counts.get(name1, last1 + 1):
            raise StoreError(
                f"{matches.path}: matches of {name0!r} and {name1!r} name keypoints that the feature file "
                "does not hold; match these features again"
            )
        if len(indices) >= MIN_MATCHES:
            db.write_matches(ids[name0], ids[name1], indices.astype(np.uint32))
