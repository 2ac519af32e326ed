"""Register queries in a triangulated model with COLMAP's mapper, as the local feature challenge does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.database import MIN_MATCHES, import_cameras, import_keypoints, import_matches, verify
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair


def register_queries(
    model: Path,
    queries: Sequence[Query],
    pairs: Sequence[Pair],
    features: Path,
    matches: Path,
    database: Path,
    seed: int = 0,
    threads: int = -1,
    progress: bool = True,
) -> dict[str, pycolmap.Rigid3d]:
    """Verify the queries' matches and register each query on its own; the model and all intrinsics stay as they are.

    Args:
        model: folder of the triangulated model, whose 2D point i is keypoint i.
        queries: with intrinsics.
        pairs: (query, image of the model), in either order.
        features, matches: HDF5 files of all images and pairs.
        database: COLMAP database to write, with all images and the queries' matches.
        seed: of RANSAC.
        threads: -1 for all cores.
        progress: show bars.

    Returns:
        name -> world to camera, of the queries that COLMAP could register.

    Raises:
        MappingError: COLMAP failed.
        StoreError: features or matches are missing.
    """
    reconstruction = read_model(model)
    names = [query.name for query in queries]
    try:
        ids = _write_database(database, reconstruction, queries, pairs, features, matches, progress)
        verify(database, seed, threads)
        with pycolmap.Database.open(database) as db:
            options = pycolmap.DatabaseCacheOptions()
            options.min_num_matches = MIN_MATCHES
            options.load_all_images = True  # the mapper looks up every image of the model
            cache = pycolmap.DatabaseCache.create(db, options)
        pycolmap.set_random_seed(seed)
        mapper = pycolmap.IncrementalMapper(cache)
        mapper.begin_reconstruction(reconstruction)
        for name in Bar(names, desc="register", unit="query", disable=not progress):
            mapper.register_next_image(_options(seed, threads), ids[name])
        mapper.end_reconstruction(False)
    except (RuntimeError, ValueError, IndexError) as error:
        raise MappingError(f"{database}: COLMAP could not register the queries ({error})") from error
    registered = {image.name: image for image in reconstruction.images.values() if image.has_pose}
    return {name: registered[name].cam_from_world() for name in names if name in registered}


def _write_database(
    path: Path,
    model: pycolmap.Reconstruction,
    queries: Sequence[Query],
    pairs: Sequence[Pair],
    features: Path,
    matches: Path,
    progress: bool,
) -> dict[str, int]:
    """A new database of the model's images, which keep their ids, and the queries. Returns name -> id."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    ids = {image.name: image.image_id for image in model.images.values()}
    with (
        FeatureStore(features) as feature_store,
        MatchStore(matches) as match_store,
        pycolmap.Database.open(path) as db,
        pycolmap.DatabaseTransaction(db),
    ):
        import_cameras(db, model)
        first = max(model.cameras) + 1, max(model.images) + 1, max(model.rigs) + 1, max(model.frames) + 1
        for number, query in enumerate(queries):
            ids[query.name] = first[1] + number
            _write_query(db, query, *(value + number for value in first))
        counts = import_keypoints(db, feature_store, ids)
        import_matches(db, match_store, ids, pairs, counts, progress)
    return ids


def _write_query(
    db: pycolmap.Database, query: Query, camera_id: int, image_id: int, rig_id: int, frame_id: int
) -> None:
    given = query.camera
    camera = pycolmap.Camera(
        camera_id=camera_id, model=given.model, width=given.width, height=given.height, params=given.params
    )
    camera.has_prior_focal_length = True  # else COLMAP would refine it
    db.write_camera(camera, use_camera_id=True)
    rig = pycolmap.Rig(rig_id=rig_id)
    rig.add_ref_sensor(camera.sensor_id)
    db.write_rig(rig, use_rig_id=True)
    image = pycolmap.Image(name=query.name, camera_id=camera_id, image_id=image_id)
    db.write_image(image, use_image_id=True)
    frame = pycolmap.Frame(frame_id=frame_id, rig_id=rig_id)
    frame.add_data_id(image.data_id)
    db.write_frame(frame, use_frame_id=True)


def _options(seed: int, threads: int) -> pycolmap.IncrementalMapperOptions:
    """COLMAP's defaults with fixed intrinsics."""
    options = pycolmap.IncrementalMapperOptions()
    options.abs_pose_refine_focal_length = False
    options.abs_pose_refine_extra_params = False
    options.random_seed = seed
    options.num_threads = threads
    return options
