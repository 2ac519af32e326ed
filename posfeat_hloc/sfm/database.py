"""Fill a COLMAP database from feature and match files, and verify its pairs geometrically."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.output import writing_remedy
from posfeat_hloc.runtime.progress import waiting
from posfeat_hloc.sfm.acontrario import drop_random_pairs
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from posfeat_hloc.sfm.database_import import import_keypoints, import_matches
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
        pair_ids, inliers = db.read_two_view_geometry_num_inliers()
        verified = [(pair, count) for pair, count in zip(pair_ids, inliers, strict=True) if count > 0]
        for pair, _ in verified:
            for image_id in pycolmap.pair_id_to_image_pair(pair):
                by_image[names[image_id]] += 1
        return DatabaseReport(
            images=len(names),
            cameras=db.num_cameras(),
            pairs=db.num_matched_image_pairs(),
            verified=len(verified),
            verified_by_image=by_image,
            inliers=sum(count for _, count in verified),
        )


def verified_pairs(path: Path) -> list[Pair]:
    """Names of the images of each verified pair."""
    with _said_of(path, "read"), pycolmap.Database.open(path) as db:
        names = {image.image_id: image.name for image in db.read_all_images()}
        pair_ids, inliers = db.read_two_view_geometry_num_inliers()
        ids = [pycolmap.pair_id_to_image_pair(pair) for pair, n in zip(pair_ids, inliers, strict=True) if n > 0]
        return [(names[a], names[b]) for a, b in ids]


@contextmanager
def _said_of(path: Path, done: str) -> Iterator[None]:
    """Say of which database COLMAP and SQLite complain."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        remedy = "delete it and run again" if done == "read" else writing_remedy(path, error)
        raise MappingError(f"{path}: cannot be {done} ({error}); {remedy}") from error


def trivial_rig(camera: pycolmap.Camera) -> pycolmap.Rig:
    """A rig of one camera, which COLMAP wants for every camera."""
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
