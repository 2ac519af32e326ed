"""Merge the models of one reconstruction where they share 3D points: a run may leave a scene in several pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.sfm.database import verified_ids
from posfeat_hloc.sfm.models import ModelSummary, model_folders, posed_images, read_model, summarize, write_model

Array = NDArray[np.float64]

FEWEST = 12
"""Common points that agree, for two models to be of one place."""

_SHARE = 0.3  # of the common points that must agree
_PIXELS = 8.0  # reprojection error in both directions of a point that agrees


@dataclass(frozen=True)
class Merged:
    """A model that joined another one.

    Attributes:
        number: of the model that joined, in the order they were given.
        common: pairs of 3D points of both models that verified matches join.
        agreed: of them.
    """

    number: int
    common: int
    agreed: int


def merge_models(
    models: Sequence[pycolmap.Reconstruction], database: Path, seed: int = 0
) -> tuple[pycolmap.Reconstruction, list[Merged]]:
    """Add models to the first one, as long as any shares enough points with what has been merged.

    Two points are taken for one where a verified match joins an observation of each. A similarity is estimated from
    these points by RANSAC. Points that agree are merged, and all is adjusted with the poses of the first model fixed.

    Args:
        models: of this database; the first is changed in place.
        database: verified, whose ids the models have.
        seed: of RANSAC.

    Returns:
        the first model, and what joined it.

    Raises:
        MappingError: COLMAP's adjustment failed.
    """
    target, joined = models[0], list[Merged]()
    waiting = dict(enumerate(models[1:], start=1))
    fixed = set(target.reg_frame_ids())
    while waiting:
        found = {number: _common_points(target, model, database) for number, model in waiting.items()}
        number = max(found, key=lambda n: len(found[n]))
        common = found[number]
        model = waiting.pop(number)
        similarity, agreed = _similarity(target, model, common, seed)
        if similarity is None:
            continue
        model.transform(similarity)
        _add(target, model, [pair for pair, agrees in zip(common, agreed, strict=True) if agrees])
        joined.append(Merged(number, len(common), int(agreed.sum())))
    if joined:
        _adjust(target, fixed)
    return target, joined


def _common_points(
    target: pycolmap.Reconstruction, model: pycolmap.Reconstruction, database: Path
) -> list[tuple[int, int]]:
    """Ids of points of both that verified matches join, or that are seen by the same keypoint of a common image."""
    pairs: set[tuple[int, int]] = set()
    ids0, ids1 = _points(target), _points(model)
    for image_id in ids0.keys() & ids1.keys():
        both = (ids0[image_id] >= 0) & (ids1[image_id] >= 0)
        pairs.update(zip(ids0[image_id][both].tolist(), ids1[image_id][both].tolist(), strict=True))
    with pycolmap.Database.open(database) as db:
        for a, b, _ in verified_ids(db):
            if not ((a in ids0 and b in ids1) or (b in ids0 and a in ids1)):
                continue
            matches = np.asarray(db.read_two_view_geometry(a, b).inlier_matches, np.int64)
            for image0, image1, columns in ((a, b, matches), (b, a, matches[:, ::-1])):
                if image0 in ids0 and image1 in ids1:
                    points0, points1 = ids0[image0][columns[:, 0]], ids1[image1][columns[:, 1]]
                    both = (points0 >= 0) & (points1 >= 0)
                    pairs.update(zip(points0[both].tolist(), points1[both].tolist(), strict=True))
    return sorted(pairs)


def _points(model: pycolmap.Reconstruction) -> dict[int, NDArray[np.int64]]:
    """Image -> id of the 3D point of each keypoint, -1 for none."""
    return {
        image.image_id: np.array([p.point3D_id if p.has_point3D() else -1 for p in image.points2D], np.int64)
        for image in posed_images(model).values()
    }


def _similarity(
    target: pycolmap.Reconstruction, model: pycolmap.Reconstruction, common: Sequence[tuple[int, int]], seed: int
) -> tuple[pycolmap.Sim3d | None, NDArray[np.bool_]]:
    """What brings the model to the target, and which common points agree with it; None where too few do."""
    none = np.zeros(len(common), bool)
    if len(common) < FEWEST:
        return None, none
    points0 = np.array([target.points3D[i].xyz for i, _ in common])
    points1 = np.array([model.points3D[j].xyz for _, j in common])
    limits0 = _tolerances(target, [i for i, _ in common])
    limits1 = _tolerances(model, [j for _, j in common])
    best, found = none, None
    rng = np.random.default_rng(seed)
    for _ in range(2000):
        rows = rng.choice(len(common), 3, replace=False)
        similarity = pycolmap.estimate_sim3d(points1[rows], points0[rows])
        agreed = _agree(similarity, points0, points1, limits0, limits1)
        if agreed.sum() > best.sum():
            best, found = agreed, similarity
    for _ in range(5):
        if found is None or best.sum() < 3:
            break
        found = pycolmap.estimate_sim3d(points1[best], points0[best])
        best = _agree(found, points0, points1, limits0, limits1)
    if best.sum() < max(FEWEST, _SHARE * len(common)):
        return None, none
    return found, best


def _agree(
    similarity: pycolmap.Sim3d | None, points0: Array, points1: Array, limits0: Array, limits1: Array
) -> NDArray[np.bool_]:
    if similarity is None or not similarity.scale > 0:
        return np.zeros(len(points0), bool)
    distances = np.linalg.norm(np.asarray(similarity * points1) - points0, axis=1)
    return np.asarray((distances < limits0) & (distances < limits1 * similarity.scale))


def _tolerances(model: pycolmap.Reconstruction, ids: Sequence[int]) -> Array:
    """For each point twice the length that the nearest camera sees as :data:`_PIXELS`; depths are less certain."""
    result = []
    for point_id in ids:
        point = model.points3D[point_id]
        lengths = []
        for element in point.track.elements:
            image = model.images[element.image_id]
            depth = float((image.cam_from_world() * point.xyz)[2])
            lengths.append(2 * _PIXELS * abs(depth) / model.cameras[image.camera_id].mean_focal_length())
        result.append(min(lengths))
    return np.array(result)


def _add(target: pycolmap.Reconstruction, model: pycolmap.Reconstruction, agreed: Sequence[tuple[int, int]]) -> None:
    """Add the images of a model that the target lacks, and its points; those that agree become one."""
    for camera_id, camera in model.cameras.items():
        if camera_id not in target.cameras:
            target.add_camera(camera)
    for rig_id, rig in model.rigs.items():
        if rig_id not in target.rigs:
            target.add_rig(rig)
    new = set(model.reg_image_ids()) - set(target.reg_image_ids())
    for frame_id in sorted({model.images[i].frame_id for i in new}):
        _add_frame(target, model, frame_id)
    partner = {j: i for i, j in agreed}
    for point_id, point in model.points3D.items():
        elements = [
            (element.image_id, element.point2D_idx)
            for element in point.track.elements
            if element.image_id in new
            and not target.images[element.image_id].points2D[element.point2D_idx].has_point3D()
        ]
        if not elements:
            continue
        if point_id in partner and partner[point_id] in target.points3D:
            for image_id, index in elements:
                target.add_observation(partner[point_id], pycolmap.TrackElement(image_id, index))
        elif len(elements) > 1:
            track = pycolmap.Track()
            for image_id, index in elements:
                track.add_element(image_id, index)
            target.add_point3D(point.xyz, track, point.color)


def _add_frame(target: pycolmap.Reconstruction, model: pycolmap.Reconstruction, frame_id: int) -> None:
    """Give the target the pose of a frame, and the frame and its images where it does not know them."""
    frame = model.frames[frame_id]
    if frame_id not in target.frames:
        copy = pycolmap.Frame()
        copy.frame_id, copy.rig_id = frame_id, frame.rig_id
        for data_id in frame.data_ids:
            copy.add_data_id(data_id)
        target.add_frame(copy)
    for data_id in frame.data_ids:
        if data_id.id not in target.images and data_id.id in model.images:
            image = model.images[data_id.id]
            places = np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)
            added = pycolmap.Image(
                name=image.name, keypoints=places, camera_id=image.camera_id, image_id=image.image_id
            )
            added.frame_id = frame_id
            target.add_image(added)
    target.frames[frame_id].rig_from_world = frame.rig_from_world
    if frame_id not in target.reg_frame_ids():
        target.register_frame(frame_id)


def _adjust(model: pycolmap.Reconstruction, fixed: set[int]) -> None:
    """Bundle adjustment of all but the frames of the first model and all intrinsics."""
    observations = pycolmap.ObservationManager(model)
    observations.filter_all_points3D(4 * _PIXELS, 0)  # what would pull
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = options.refine_principal_point = False
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for frame_id in fixed:
        config.set_constant_rig_from_world_pose(frame_id)
    try:
        pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    except (RuntimeError, ValueError) as error:
        raise MappingError(f"COLMAP cannot adjust the merged model ({error})") from error
    observations.filter_all_points3D(4.0, 1.5)  # COLMAP's thresholds
    model.update_point_3d_errors()


@dataclass(frozen=True)
class MergedMap:
    """Result of merging the models of a run.

    Attributes:
        model: the merged one; None where none could be joined.
        joined: models that are part of it, besides the first.
        left: number of models that are not.
    """

    model: ModelSummary | None
    joined: list[Merged]
    left: int


def merge_map(map_folder: Path, output: Path | None = None, seed: int = 0) -> MergedMap:
    """Join the models of a run that share points.

    Args:
        map_folder: output of :func:`posfeat_hloc.sfm.pipeline.reconstruct` with several models in ``sparse/``.
        output: folder of the merged model; ``merged`` in ``map_folder`` when None.
        seed: of all random choices.

    Raises:
        ConfigurationError: fewer than two models, or no database.
    """
    folders = model_folders(map_folder / "sparse") if (map_folder / "sparse").is_dir() else []
    if len(folders) < 2 or not (map_folder / "database.db").is_file():
        raise ConfigurationError(
            f"{map_folder}: merging needs several models in sparse/, not {len(folders)}, and their database.db"
        )
    models = [read_model(folder) for folder in folders]
    target, joined = merge_models(models, map_folder / "database.db", seed)
    left = len(models) - 1 - len(joined)
    if not joined:
        return MergedMap(None, [], left)
    output = output or map_folder / "merged"
    with only_writer(output):
        write_model(target, output)
    return MergedMap(summarize(target, output), joined, left)
