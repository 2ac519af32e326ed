"""Triangulate new points into a model whose camera poses are known."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.sfm.colmap_messages import colmap_messages
from posfeat_hloc.sfm.database import verify
from posfeat_hloc.sfm.database_import import MIN_MATCHES, import_cameras, import_keypoints, import_matches
from posfeat_hloc.sfm.point_colors import color_points, readable_colors
from posfeat_hloc.sfm.point_triangulation import triangulate_points
from posfeat_hloc.sfm.pose_verification import verify_with_poses
from posfeat_hloc.sfm.reconstruction import ModelSummary, read_model, summarize, write_model
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
    registered = {image.name: model.cameras[image.camera_id] for image in model.images.values() if image.has_pose}
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
    files = [images / image.name for image in model.images.values() if (images / image.name).is_file()]
    if files and all(readable_colors(path) for path in files):
        model.extract_colors_for_all_images(images)
    elif files:
        color_points(model, images)
