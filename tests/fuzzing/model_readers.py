"""COLMAP models and databases, NVM files, and the databases of benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.aachen.colmap_files import image_names, read_prepared, write_prepared
from posfeat_hloc.aachen.nvm import convert_nvm, write_nvm
from posfeat_hloc.evaluation.eth import find_reconstruction_sets
from posfeat_hloc.localization.maps import SparseMap
from posfeat_hloc.sfm.database import describe_database
from posfeat_hloc.sfm.models import read_model, summarize
from posfeat_hloc.sfm.pairs import covisibility_pairs, pose_pairs
from tests.fuzzing.readers import Reader, files_of


def camera() -> pycolmap.Camera:
    return pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 400.0, 400, 300)


def model() -> pycolmap.Reconstruction:
    """Three images and five points."""
    made, rng = pycolmap.Reconstruction(), np.random.default_rng(0)
    made.add_camera_with_trivial_rig(camera())
    for number in (1, 2, 3):
        image = pycolmap.Image(f"db/{number} x.jpg", rng.uniform(0, 300, (6, 2)), camera_id=1, image_id=number)
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([number, 0, 5.0])))
    for point in range(5):
        track = pycolmap.Track()
        for number in (1, 2, 3):
            track.add_element(number, point)
        made.add_point3D(rng.normal(size=3), track)
    return made


def readers() -> list[Reader]:
    cameras = {image.name: camera() for image in model().images.values()}
    return [
        Reader("binary model", [files_of(lambda folder: model().write_binary(folder))], _model),
        Reader("text model", [files_of(lambda folder: model().write_text(folder))], _model),
        Reader("names of a model", [files_of(lambda folder: model().write_binary(folder)),
                                    files_of(lambda folder: model().write_text(folder))], image_names),
        Reader("NVM", [files_of(lambda folder: write_nvm(folder / "m.nvm", model()))],
               lambda folder: convert_nvm(folder / "m.nvm", cameras, folder.with_name(folder.name + "-out"), False)),
        Reader("prepared database", [files_of(lambda folder: write_prepared(folder / "d.db", cameras))],
               lambda folder: read_prepared(folder / "d.db")),
        Reader("ETH database", [files_of(_eth)], find_reconstruction_sets, beside=("images/a.jpg",)),
        Reader("COLMAP database", [files_of(_database)], lambda folder: describe_database(folder / "d.db")),
    ]  # fmt: skip


def _model(folder: Path) -> None:
    summarize(read_model(folder), folder)
    covisibility_pairs(folder, 2)
    pose_pairs(folder, 2)
    sparse = SparseMap(folder)
    for name in sparse.names:
        ids = sparse.point_ids(name)
        sparse.positions(ids[ids >= 0])
        sparse.cam_from_world(name)


def _eth(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").touch()
    write_prepared(folder / "database.db", {"a.jpg": camera(), "b.jpg": camera()})


def _database(folder: Path) -> None:
    with pycolmap.Database.open(folder / "d.db") as db:
        made = model()
        for each in made.cameras.values():
            db.write_camera(each, use_camera_id=True)
        for rig in made.rigs.values():
            db.write_rig(rig, use_rig_id=True)
        for frame in made.frames.values():
            db.write_frame(frame, use_frame_id=True)
        for image in made.images.values():
            db.write_image(image, use_image_id=True)
            db.write_keypoints(image.image_id, np.zeros((6, 2), np.float32))
        db.write_matches(1, 2, np.zeros((6, 2), np.uint32))
        geometry = pycolmap.TwoViewGeometry()
        geometry.inlier_matches = np.zeros((6, 2), np.uint32)
        db.write_two_view_geometry(1, 2, geometry)
