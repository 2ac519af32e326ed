"""COLMAP databases: filled from feature and match files and from models, verified geometrically."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.errors import MappingError, StoreError
from posfeat_hloc.runtime.output import writing_remedy
from posfeat_hloc.runtime.progress import Bar, waiting
from posfeat_hloc.sfm.acontrario import drop_random_pairs
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.foreign import check_sizes
from posfeat_hloc.stores.pairs import Pair

MADE_BY = (pycolmap.__version__, 2)
"""What a database depends on besides its inputs: COLMAP, and a number that grows when verification here changes."""


@dataclass(frozen=True)
class DatabaseReport:
    """What a database holds.

    Attributes:
        images, cameras: their numbers.
        pairs: pairs with enough matches to verify.
        verified: pairs that passed.
        verified_by_image: image name -> verified pairs it takes part in.
        inliers: verified matches, all pairs together.
    """

    images: int
    cameras: int
    pairs: int
    verified: int
    verified_by_image: dict[str, int]
    inliers: int


def build_database(
    path: Path,
    images: Path,
    features: Path,
    matches: Path,
    names: Sequence[str],
    pairs: Sequence[Pair],
    camera: CameraOptions | None = None,
    progress: bool = True,
) -> None:
    """Write cameras, images, keypoints and matches into a new database.

    Keypoints get COLMAP's half pixel here. Pairs are read one after the other, in one transaction: memory does not
    grow with their number.

    Raises:
        StoreError: features or matches are missing.
        ConfigurationError: images of different sizes were to share a camera.
        MappingError: the database cannot be written.
    """
    for suffix in ("", "-wal", "-shm"):  # SQLite's own files of a killed run
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with (
        FeatureStore(features) as feature_store,
        MatchStore(matches) as match_store,
        _said_of(path, "written"),
        pycolmap.Database.open(path) as db,
        pycolmap.DatabaseTransaction(db),
    ):
        check_sizes(feature_store, images, names)
        sizes = {name: feature_store.image_size(name) for name in names}
        ids: dict[str, int] = {}
        for camera_guess, members in assign_cameras(images, sizes, camera or CameraOptions()):
            camera_guess.camera_id = db.write_camera(camera_guess)
            rig_id = db.write_rig(trivial_rig(camera_guess))
            for name in members:
                ids[name] = write_image(db, name, camera_guess.camera_id, rig_id)
        counts = import_keypoints(db, feature_store, {name: ids[name] for name in sorted(names)})
        import_matches(db, match_store, ids, pairs, counts, progress)


def verify(path: Path, seed: int = 0, threads: int = -1, max_error: float = 4.0, progress: bool = False) -> None:
    """Estimate the two-view geometry of every pair in a database (COLMAP's verification).

    Pairs that have enough inliers for COLMAP, but no more than chance gives (:mod:`posfeat_hloc.sfm.acontrario`), are
    rejected as well.

    Args:
        path: of the database.
        seed: of each pair's RANSAC, which makes the result independent of the number of threads.
        threads: -1 for all cores.
        max_error: of an inlier, in pixels.
        progress: show bars.
    """
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    options.ransac.max_error = max_error
    verifier = pycolmap.GeometricVerifierOptions()
    verifier.num_threads = threads
    with _said_of(path, "verified"):
        total = describe_database(path).pairs if progress else None
        with waiting("verify", progress, total, partial(_verified, path)):
            pycolmap.geometric_verification(path, verifier_options=verifier, two_view_geometry_options=options)
        with pycolmap.Database.open(path) as db:
            drop_random_pairs(db, max_error, progress)


def _verified(path: Path) -> int:
    """Pairs that COLMAP has looked at so far, read while it writes."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM two_view_geometries").fetchone()[0])


def describe_database(path: Path) -> DatabaseReport:
    """Count what a database holds; MappingError for one that is damaged."""
    with _said_of(path, "read"), pycolmap.Database.open(path) as db:
        names = {image.image_id: image.name for image in db.read_all_images()}
        by_image = dict.fromkeys(names.values(), 0)
        verified = verified_ids(db)
        for *pair, _ in verified:
            for image_id in pair:
                by_image[names[image_id]] += 1
        return DatabaseReport(
            images=len(names),
            cameras=db.num_cameras(),
            pairs=db.num_matched_image_pairs(),
            verified=len(verified),
            verified_by_image=by_image,
            inliers=sum(count for *_, count in verified),
        )


def verified_pairs(path: Path) -> list[Pair]:
    """Names of the images of each verified pair."""
    with _said_of(path, "read"), pycolmap.Database.open(path) as db:
        names = {image.image_id: image.name for image in db.read_all_images()}
        return [(names[a], names[b]) for a, b, _ in verified_ids(db)]


def verified_ids(db: pycolmap.Database) -> list[tuple[int, int, int]]:
    """Both images and the number of inliers of each verified pair."""
    pair_ids, counts = db.read_two_view_geometry_num_inliers()
    return [(*pycolmap.pair_id_to_image_pair(i), n) for i, n in zip(pair_ids, counts, strict=True) if n > 0]


@contextmanager
def _said_of(path: Path, done: str) -> Iterator[None]:
    """Say of which database COLMAP and SQLite complain."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        remedy = "delete it and run again" if done == "read" else writing_remedy(path, error)
        raise MappingError(f"{path}: cannot be {done} ({error}); {remedy}") from error


def trivial_rig(camera: pycolmap.Camera) -> pycolmap.Rig:
    """A rig of one camera, which COLMAP requires for every camera."""
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    return rig


def write_image(db: pycolmap.Database, name: str, camera_id: int, rig_id: int) -> int:
    """Write an image and its frame into a database; returns the id of the image."""
    image = pycolmap.Image(name=name, camera_id=camera_id)
    image.image_id = db.write_image(image)
    frame = pycolmap.Frame()
    frame.rig_id = rig_id
    frame.add_data_id(image.data_id)
    db.write_frame(frame)
    return int(image.image_id)


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
