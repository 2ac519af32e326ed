"""Triangulate new points into a model whose camera poses are known."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.geometry.two_view import epipolar_errors
from posfeat_hloc.runtime.colmap_log import colmap_messages
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.coarse_keypoints import start_mapper
from posfeat_hloc.sfm.database import MIN_MATCHES, import_cameras, import_keypoints, import_matches, verify
from posfeat_hloc.sfm.models import (
    ModelSummary,
    color_points,
    essential_between,
    posed_images,
    read_model,
    summarize,
    write_model,
)
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair, unique_pairs

VERIFICATIONS = ("poses", "ransac")


@dataclass(frozen=True)
class TriangulationOptions:
    """How matches become 3D points; what is not named here has COLMAP's defaults."""

    verification: str = "poses"
    """``poses``: a match is kept when it agrees with the known relative pose; ``ransac``: when it agrees with the
    geometry that COLMAP estimates from the matches of the pair, as the local feature challenge of Aachen does."""
    max_error: float = 4.0
    """Of a kept match: ``poses``: in standard deviations of a keypoint, ``ransac``: in pixels."""
    two_view_tracks: bool = False
    """Whether points that only two images see are kept; COLMAP leaves them out."""
    seed: int = 0
    """Of all random choices; with ``threads=1`` two runs give the same points to the last digit."""
    threads: int = -1
    """-1 for all cores."""

    def __post_init__(self) -> None:
        if self.verification not in VERIFICATIONS:
            raise ConfigurationError(
                f"verification {self.verification!r} does not exist; choose from {', '.join(VERIFICATIONS)}"
            )
        if not self.max_error > 0:
            raise ConfigurationError(f"max_error must be positive, not {self.max_error}")


def triangulate(
    reference: Path,
    images: Path,
    features: Path,
    matches: Path,
    pairs: Sequence[Pair],
    output: Path,
    options: TriangulationOptions | None = None,
    progress: bool = True,
) -> ModelSummary:
    """Write the model folder ``output``: the reference's cameras and poses, with points from our features and matches.

    Poses and intrinsics stay as they are. The 2D point i of an image is keypoint i of the feature file, plus COLMAP's
    half pixel. Images without features stay in the model without 2D points; pairs with fewer than 15 matches give
    no points. Where no point is seen by three images, those that two see are taken. ``output`` is replaced as a whole
    at the end, never before; it also holds ``database.db``.

    Args:
        reference: COLMAP model, binary or text; its points are not used.
        images: folder of the images, from which points take their colors; they stay black where images are missing.
        features, matches: HDF5 files of ours or hloc's; matches need no verification.
        pairs: of images of the reference, matched before.
        output: folder of the model.
        options: see :class:`TriangulationOptions`.
        progress: show bars, and what COLMAP says.

    Raises:
        MappingError: no model in ``reference``, pairs of images that are not in it, features of images of another size
            than its cameras', or COLMAP failed.
        StoreError: features or matches of a pair are missing, or do not belong together.
    """
    options = options or TriangulationOptions()
    pairs = unique_pairs(pairs)
    model = read_model(reference)
    partial = output.with_name(output.name + ".partial")
    database = partial / "database.db"
    with colmap_messages(progress), FeatureStore(features) as feature_store, MatchStore(matches) as match_store:
        _check(model, feature_store, pairs, reference)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with pycolmap.Database.open(database) as db, pycolmap.DatabaseTransaction(db):
            ids = import_cameras(db, model)
            counts = import_keypoints(db, feature_store, ids)
            import_matches(db, match_store, ids, pairs, counts, progress)
            if options.verification == "poses":
                verify_with_poses(db, model, feature_store, pairs, options.max_error, progress)
        if options.verification == "ransac":
            verify(database, options.seed, options.threads, options.max_error)
    with colmap_messages(progress):
        _triangulate(model, database, images, options)
    write_model(model, partial)
    summary = summarize(model, output)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return summary


def _check(model: pycolmap.Reconstruction, features: FeatureStore, pairs: Sequence[Pair], reference: Path) -> None:
    """All images of the pairs are in the model, and the features are of images of the size that it knows."""
    registered = {name: model.cameras[image.camera_id] for name, image in posed_images(model).items()}
    if strangers := sorted({name for pair in pairs for name in pair} - registered.keys()):
        raise MappingError(
            f"{reference}: has no pose of {strangers[0]!r} ({len(strangers)} images of the pairs); "
            "leave those pairs out"
        )
    for name, camera in registered.items():
        if name in features and features.image_size(name) != (camera.width, camera.height):
            width, height = features.image_size(name)
            raise MappingError(
                f"{features.path}: features of {name!r} are of an image of {width}x{height} pixels, but its camera in "
                f"{reference} has {camera.width}x{camera.height}; use the images that the model was made of"
            )


def _triangulate(model: pycolmap.Reconstruction, database: Path, images: Path, options: TriangulationOptions) -> None:
    incremental = pycolmap.IncrementalPipelineOptions()
    incremental.min_num_matches = MIN_MATCHES
    incremental.num_threads = options.threads
    incremental.random_seed = options.seed
    incremental.mapper.random_seed = options.seed
    incremental.triangulation.random_seed = options.seed
    incremental.triangulation.ignore_two_view_tracks = not options.two_view_tracks
    pycolmap.set_random_seed(options.seed)
    try:
        triangulate_points(model, database, incremental)
        if not model.num_points3D():  # pairs that share no image, two images above all: no point is seen by three
            incremental.triangulation.ignore_two_view_tracks = False
            triangulate_points(model, database, incremental)
    except (RuntimeError, ValueError, IndexError) as error:
        raise MappingError(f"{database}: COLMAP's triangulation failed ({error})") from error
    color_points(model, images)


_IMAGES_IN_MEMORY = 1000  # 20 000 keypoints each are 320 MB


def verify_with_poses(
    database: pycolmap.Database,
    model: pycolmap.Reconstruction,
    features: FeatureStore,
    pairs: Sequence[Pair],
    max_error: float = 4.0,
    progress: bool = True,
) -> None:
    """Write the model's two-view geometry, with the matches it explains, for each pair that has matches in a database.

    The geometry is marked as calibrated: COLMAP 4 ignores inlier matches of a geometry without a configuration.

    Args:
        database: open for writing, with the image ids of the model, keypoints and matches.
        model: with known poses and cameras.
        features: where the standard deviations of the keypoints are.
        pairs: image names.
        max_error: largest distance to the epipolar line in either image, in standard deviations of a keypoint; in
            pixels where the feature file holds none (as in hloc).
        progress: show a bar.
    """
    images = {image.name: image for image in model.images.values()}

    @lru_cache(maxsize=_IMAGES_IN_MEMORY)
    def normalized(name: str) -> tuple[NDArray[np.float64], float]:
        """Undistorted keypoints on the plane at unit distance, and the threshold there."""
        image = images[name]
        camera = model.cameras[image.camera_id]
        noise = features.uncertainty(name) or 1.0
        pixels = np.asarray(database.read_keypoints(image.image_id), np.float64)[:, :2]
        return np.asarray(camera.cam_from_img(pixels)), camera.cam_from_img_threshold(max_error * noise)

    for name0, name1 in Bar(pairs, desc="verify", unit="pair", disable=not progress):
        image0, image1 = images[name0], images[name1]
        if not database.exists_matches(image0.image_id, image1.image_id):
            continue
        matches = np.asarray(database.read_matches(image0.image_id, image1.image_id))
        points0, threshold0 = normalized(name0)
        points1, threshold1 = normalized(name1)
        relative, essential = essential_between(image0, image1)
        error0, error1 = epipolar_errors(essential, points0[matches[:, 0]], points1[matches[:, 1]])
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        geometry.E = essential
        geometry.cam2_from_cam1 = relative
        geometry.inlier_matches = matches[(error0 <= threshold0) & (error1 <= threshold1)]
        database.write_two_view_geometry(image0.image_id, image1.image_id, geometry)


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
    mapper = start_mapper(model, database)
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
