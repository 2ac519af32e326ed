"""Grow a model: register further images in it, from a database that has all of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.alignment import aligned_to
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from posfeat_hloc.sfm.coarse_keypoints import coarse_noise, max_error
from posfeat_hloc.sfm.database import import_cameras, import_keypoints, import_matches, trivial_rig, verify, write_image
from posfeat_hloc.sfm.models import posed_images, read_model, write_model
from posfeat_hloc.sfm.reconstruction import MapperOptions, incremental_options
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair


@dataclass(frozen=True)
class Stores:
    """What a model is made from.

    Attributes:
        images: folder of the photographs, old and new.
        features, matches: HDF5 files.
    """

    images: Path
    features: Path
    matches: Path


def build_extended_database(
    path: Path,
    model: pycolmap.Reconstruction,
    stores: Stores,
    names: Sequence[str],
    pairs: Sequence[Pair],
    camera: CameraOptions | None = None,
    seed: int = 0,
    threads: int = -1,
    progress: bool = True,
) -> None:
    """A verified database of a model's images, with the model's ids, and of new ones.

    A new image gets the camera of the model's images that it shares EXIF camera, size and folder with
    (:func:`posfeat_hloc.sfm.cameras.assign_cameras`), else one of its own group.

    Args:
        path: a new file.
        model: with the 2D points of these features.
        stores: see :class:`Stores`.
        names: of the new images.
        pairs: each with a new image at least.
        camera: how cameras are assigned.
        seed: of the verification.
        threads: -1 for all cores.
        progress: show bars.

    Raises:
        StoreError: features or matches are missing.
        MappingError: the database cannot be written or verified.
    """
    path.unlink(missing_ok=True)
    ids = {image.name: image.image_id for image in model.images.values()}
    with FeatureStore(stores.features) as features, MatchStore(stores.matches) as matches:
        sizes = {name: features.image_size(name) for name in (*ids, *names) if (stores.images / name).is_file()}
        with pycolmap.Database.open(path) as db, pycolmap.DatabaseTransaction(db):
            counts = import_keypoints(db, features, import_cameras(db, model))
            for guessed, members in assign_cameras(stores.images, sizes, camera or CameraOptions()):
                new = [name for name in members if name not in ids]
                if not new:
                    continue
                camera_id, rig_id = _shared_camera(model, [ids[name] for name in members if name in ids]) or (
                    _new_camera(db, guessed)
                )
                for name in new:
                    ids[name] = write_image(db, name, camera_id, rig_id)
            counts |= import_keypoints(db, features, {name: ids[name] for name in names})
            import_matches(db, matches, ids, pairs, counts, progress)
    verify(path, seed, threads, max_error(coarse_noise(stores.features, names)))


def _shared_camera(model: pycolmap.Reconstruction, images: Sequence[int]) -> tuple[int, int] | None:
    """Camera and rig of most of a model's images; None where there is none, or the rig has several cameras."""
    if not images:
        return None
    camera_id = Counter(model.images[i].camera_id for i in images).most_common(1)[0][0]
    for rig_id, rig in model.rigs.items():
        if rig.num_sensors() == 1 and rig.ref_sensor_id.id == camera_id:
            return camera_id, rig_id
    return None


def _new_camera(db: pycolmap.Database, camera: pycolmap.Camera) -> tuple[int, int]:
    camera.camera_id = db.write_camera(camera)
    return camera.camera_id, db.write_rig(trivial_rig(camera))


@dataclass(frozen=True)
class ExtensionOptions:
    """How images are added to a model."""

    move: bool = False
    """Whether poses and intrinsics of the model may change; as a whole it stays where it was. Otherwise they stay to
    the last digit, and only the new images and the points are adjusted."""
    refine_intrinsics: bool = True
    """Whether the intrinsics of new cameras are adjusted."""
    seed: int = 0
    threads: int = -1


def extend_model(
    model: pycolmap.Reconstruction, database: Path, images: Path, working: Path, options: ExtensionOptions
) -> pycolmap.Reconstruction:
    """Register further images of a database in a model by COLMAP's incremental mapper.

    Args:
        model: to grow; is not changed.
        database: verified, with the ids of the model.
        images: folder of the photographs, for the colors of new points.
        working: an empty folder for what COLMAP writes.
        options: see :class:`ExtensionOptions`.

    Raises:
        MappingError: COLMAP failed.
    """
    start, grown = working / "start", working / "grown"
    for folder in (start, grown):
        folder.mkdir(parents=True)
    write_model(model, start)
    mapper = _mapper_options(model, options)
    pycolmap.set_random_seed(options.seed)
    try:
        found = pycolmap.incremental_mapping(database, images, grown, mapper, input_path=start)
    except (RuntimeError, ValueError) as error:
        raise MappingError(f"{database}: COLMAP's mapper failed ({error}); see the newest file in logs/") from error
    result = max(found.values(), key=lambda one: one.num_reg_images(), default=None) or read_model(start)
    if not options.move:
        _put_back(result, model)
    elif (similarity := aligned_to(result, model)) is not None:
        result.transform(similarity)
    result.update_point_3d_errors()
    shutil.rmtree(working)
    return result


def _mapper_options(model: pycolmap.Reconstruction, options: ExtensionOptions) -> pycolmap.IncrementalPipelineOptions:
    mapper = incremental_options(
        MapperOptions(
            seed=options.seed, threads=options.threads, min_model_size=2, refine_intrinsics=options.refine_intrinsics
        )
    )
    mapper.multiple_models = False
    if not options.move:
        mapper.fix_existing_frames = True
        mapper.constant_cameras = set(model.cameras)
        mapper.constant_rigs = set(model.rigs)
    return mapper


def _put_back(result: pycolmap.Reconstruction, model: pycolmap.Reconstruction) -> None:
    """Give frames and cameras of the model the values they had, also those that COLMAP dropped."""
    for camera_id, camera in model.cameras.items():
        result.cameras[camera_id].params = camera.params
    for frame_id, frame in model.frames.items():
        if not frame.has_pose():
            continue
        result.frames[frame_id].rig_from_world = frame.rig_from_world
        if not result.frames[frame_id].has_pose() or frame_id not in result.reg_frame_ids():
            result.register_frame(frame_id)


def moved(before: Mapping[str, pycolmap.Rigid3d], after: pycolmap.Reconstruction) -> float:
    """Largest difference of a number in the poses of the same images; 0 when they are equal to the last digit."""
    poses = {name: image.cam_from_world() for name, image in posed_images(after).items()}
    found = [np.abs(poses[name].matrix() - pose.matrix()).max() for name, pose in before.items() if name in poses]
    return float(max(found, default=0.0))
