"""The fine stage of a reconstruction: all keypoints at the poses of a coarse model, then one adjustment."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.coarse_keypoints import adjust_in_rounds, coarse_noise, max_error, start_mapper
from posfeat_hloc.sfm.database import MIN_MATCHES, build_database, import_matches, verify
from posfeat_hloc.sfm.models import ModelSummary, color_points, read_model, registered_names, write_model, write_ranked
from posfeat_hloc.sfm.reconstruction import MapperOptions, has_left_over, incremental_options
from posfeat_hloc.sfm.triangulation import verify_with_poses
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.pairs import Pair

MAX_ERROR = 4.0
"""Of a match of posed images, in standard deviations of a keypoint; the adjustment filters more finely."""


def build_fine_database(
    path: Path,
    images: Path,
    features: Path,
    matches: Path,
    names: Sequence[str],
    posed: Sequence[tuple[pycolmap.Reconstruction, Sequence[Pair]]],
    others: Sequence[Pair],
    camera: CameraOptions,
    seed: int,
    threads: int,
    progress: bool = True,
) -> None:
    """Write a database of all keypoints, whose pairs are verified.

    Args:
        path: of the database.
        images, features, matches, names, camera: see :func:`~posfeat_hloc.sfm.database.build_database`.
        posed: models of the coarse stage with the pairs that were matched by their poses, which verify them, too.
        others: pairs that were matched without, verified by RANSAC.
        seed, threads: of that verification.

    Raises:
        MappingError: an image has another number here than in its model.
    """
    build_database(path, images, features, matches, names, others, camera, progress)
    if others:
        verify(path, seed, threads, max_error(coarse_noise(features, names)), progress)
    with (
        FeatureStore(features) as feature_store,
        MatchStore(matches) as match_store,
        pycolmap.Database.open(path) as db,
        pycolmap.DatabaseTransaction(db),
    ):
        ids = {image.name: image.image_id for image in db.read_all_images()}
        for model, pairs in posed:
            if any(ids.get(image.name) != number for number, image in model.images.items()):
                raise MappingError(f"{path}: numbers its images differently from the coarse model; delete both, rerun")
            import_matches(db, match_store, ids, pairs, {}, progress)
            verify_with_poses(db, model, feature_store, pairs, MAX_ERROR, progress)


def refine(model: pycolmap.Reconstruction, database: Path, options: MapperOptions) -> None:
    """Give a posed model the points of all keypoints of a database, and adjust poses, intrinsics and points.

    The steps are those of COLMAP's mapper after its last image: triangulation, completion and merging of tracks,
    adjustment, filtering.

    Args:
        model: with the numbers of the database; changed in place.
        database: verified.
        options: of the mapper; known intrinsics stay.

    Raises:
        MappingError: COLMAP failed.
    """
    incremental = incremental_options(options)
    incremental.min_num_matches = MIN_MATCHES
    pycolmap.set_random_seed(options.seed)
    try:
        model.delete_all_points2D_and_points3D()
        mapper = start_mapper(model, database)
        for image_id in model.reg_image_ids():
            mapper.triangulate_image(incremental.get_triangulation(), image_id)
        adjust_in_rounds(mapper, incremental)
        mapper.end_reconstruction(False)
    except (RuntimeError, ValueError, IndexError) as error:
        raise MappingError(f"{database}: COLMAP's refinement failed ({error}); see the newest file in logs/") from error
    model.update_point_3d_errors()


def grow(
    model: pycolmap.Reconstruction,
    database: Path,
    images: Path,
    folder: Path,
    options: MapperOptions,
    progress: bool = True,
) -> pycolmap.Reconstruction:
    """Register images that a model lacks and verified pairs join to it, those without 3D points by 2D matches.

    Args:
        model: with the numbers of the database; it is returned where nothing can be added.
        database: verified.
        images: folder of the photographs.
        folder: for temporary files.
    """
    if not has_left_over(database, model):
        return model
    incremental = incremental_options(options)
    incremental.multiple_models = False
    start, grown = folder / "start", folder / "grown"
    for made in (start, grown):
        made.mkdir(parents=True)
    write_model(model, start)
    try:
        with Bar(desc="map", unit="image", disable=not progress) as bar:
            found = pycolmap.incremental_mapping(
                database, images, grown, incremental, input_path=start, next_image_callback=lambda: bar.update(1)
            )
    except (RuntimeError, ValueError) as error:
        raise MappingError(f"{database}: COLMAP's mapper failed ({error}); see the newest file in logs/") from error
    return max([model, *found.values()], key=lambda m: m.num_reg_images())


def refine_all(
    coarse: Sequence[Path],
    database: Path,
    images: Path,
    output: Path,
    options: MapperOptions,
    progress: bool = True,
) -> list[ModelSummary]:
    """Refine coarse models, try the images that the largest lacks, and write all to ``output/0``, ``output/1``, ...

    A smaller model whose images the largest has taken up is dropped. ``output`` is replaced as a whole at the end.

    Args:
        coarse: folders of the coarse models, the largest first.
        database: verified, with all keypoints.
        images: folder of the photographs, for the colors.
        output: folder of the models.
        options: of the mapper.

    Raises:
        MappingError: COLMAP failed.
    """
    partial = output.with_name(output.name + ".partial")
    for stale in (partial, output):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir(parents=True)
    models = []
    for folder in coarse:
        model = read_model(folder)
        refine(model, database, options)
        models.append(model)
    models[0] = grow(models[0], database, images, partial / "colmap", options, progress)
    taken = set(registered_names(models[0]))
    models = [models[0], *(model for model in models[1:] if not taken.issuperset(registered_names(model)))]
    for model in models if options.colors else []:
        color_points(model, images)
    shutil.rmtree(partial / "colmap", ignore_errors=True)
    return write_ranked(models, partial, output)
