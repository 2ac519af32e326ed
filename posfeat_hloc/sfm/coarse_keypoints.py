"""Keypoints on a grid, as of the papers' D2D and D2-Net: thresholds of verification and mapping.

A keypoint that is a cell of 4 x 4 pixels is off by 1.15 px in x and in y, by as much more as the photograph was shrunk
for extraction. COLMAP's thresholds of 4 px then turn down right matches, and focal lengths that are adjusted while a
model has few images follow the noise: thresholds follow it instead, and intrinsics wait until all images are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.sfm.database import MIN_MATCHES
from posfeat_hloc.stores import FeatureStore

MAX_ERROR = 4.0
"""COLMAP's largest error of an inlier and of an observation, in pixels; enough for keypoints found to a pixel."""

FINE = 1.1
"""Standard deviation up to which keypoints are fine, in pixels of what the network saw; cells of 4 px have 1.15."""

DEVIATIONS = 3.0
"""Largest error in standard deviations of x and of y: 99 % of the keypoints are nearer to their place."""

ROUNDS = 5
"""Of adjustment, completion and filtering, at most; two leave positions a quarter further off
(benchmarks/results/speed.md)."""

LEAST_CHANGE = 0.0005
"""Share of observations that completion and filtering change, below which no further round follows."""

TRIALS, MOST_TRIED_AGAIN = 3, 50
"""Models that are made, each with one thread, and images of a collection above which one model has to do: a facade of
coarse keypoints fits bent models nearly as well, and where the mapper ends depends on seed and number of threads."""


def coarse_noise(features: Path, names: Sequence[str]) -> float:
    """Standard deviation of x and of y of coarse keypoints, in pixels of the photographs.

    Args:
        features: feature file. Those of other programs do not say at which size keypoints were found, and count as
            fine.
        names: images; the median over them is returned.

    Returns:
        0 where they were found to a pixel of what the network saw, or better.
    """
    with FeatureStore(features) as store:
        if store.configuration is None or not names:
            return 0.0
        limit = store.configuration.get("preprocessing", {}).get("resize_max")
        noise = [store.uncertainty(name) or 0.0 for name in names]
        sides = [max(store.image_size(name)) for name in names]
    shrunk = [max(1.0, side / limit) if limit else 1.0 for side in sides]
    found = float(np.median([n / s for n, s in zip(noise, shrunk, strict=True)]))
    return float(np.median(noise)) if found > FINE else 0.0


def max_error(noise: float) -> float:
    """Largest error of a match or an observation, in pixels, for keypoints of this :func:`coarse_noise`."""
    return max(MAX_ERROR, DEVIATIONS * noise)


def allow(options: pycolmap.IncrementalPipelineOptions, noise: float) -> None:
    """Raise those of the mapper's thresholds that are below :func:`max_error`."""
    for group, names in (
        (options.mapper, ("init_max_error", "abs_pose_max_error", "filter_max_reproj_error")),
        (options.triangulation, ("merge_max_reproj_error", "complete_max_reproj_error")),
    ):
        for name in names:
            setattr(group, name, max(getattr(group, name), max_error(noise)))


def hold_intrinsics(options: pycolmap.IncrementalPipelineOptions) -> None:
    """Keep the intrinsics that the database has while images are added."""
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False


def finish(model: pycolmap.Reconstruction, database: Path, options: pycolmap.IncrementalPipelineOptions) -> None:
    """Adjust a complete model with its intrinsics, and leave one observation an image and point.

    Args:
        model: with the numbers of the database; changed in place.
        database: verified.
        options: of the mapper; what they refine is refined.
    """
    mapper = start_mapper(model, database)
    adjust_in_rounds(mapper, options)
    for image_id, keypoint in repeated_observations(model):
        mapper.observation_manager.delete_observation(image_id, keypoint)
    mapper.adjust_global_bundle(options.get_mapper(), options.get_global_bundle_adjustment())
    mapper.filter_points(options.get_mapper())
    mapper.end_reconstruction(False)
    model.update_point_3d_errors()


def start_mapper(model: pycolmap.Reconstruction, database: Path) -> pycolmap.IncrementalMapper:
    """COLMAP's incremental mapper, about to work on a model with the matches of its database."""
    with pycolmap.Database.open(database) as db:
        cached = pycolmap.DatabaseCacheOptions()
        cached.min_num_matches = MIN_MATCHES
        cached.load_all_images = True  # those without verified pairs keep their 2D points, too
        mapper = pycolmap.IncrementalMapper(pycolmap.DatabaseCache.create(db, cached))
    mapper.begin_reconstruction(model)
    return mapper


def adjust_in_rounds(mapper: pycolmap.IncrementalMapper, options: pycolmap.IncrementalPipelineOptions) -> None:
    """Adjust, complete, merge and filter repeatedly, as COLMAP does after its last image; keeps the frame."""
    mapper.iterative_global_refinement(
        ROUNDS,
        LEAST_CHANGE,
        options.get_mapper(),
        options.get_global_bundle_adjustment(),
        options.get_triangulation(),
        normalize_reconstruction=False,
    )


def support(model: pycolmap.Reconstruction) -> tuple[int, int]:
    """Registered images and observations, by which models of the same keypoints are compared."""
    return model.num_reg_images(), model.compute_num_observations()


def repeated_observations(model: pycolmap.Reconstruction) -> list[tuple[int, int]]:
    """Image and number of the keypoints that see a point which another keypoint of their image is nearer to.

    Neighbouring cells of a grid match the same one of another image, and count as so many independent observations.
    """
    repeated = []
    for point in model.points3D.values():
        by_image: dict[int, list[tuple[float, int]]] = {}
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx].xy
            projected = image.project_point(point.xyz)
            error = float(np.sum((projected - seen) ** 2)) if projected is not None else np.inf
            by_image.setdefault(element.image_id, []).append((error, element.point2D_idx))
        for image_id, several in by_image.items():
            repeated += [(image_id, keypoint) for _, keypoint in sorted(several)[1:]]
    return repeated
