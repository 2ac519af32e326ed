"""The database that the local feature challenge hands out: names and cameras of all images, in COLMAP's schema of 2018.

It is read and written with SQLite alone, because current versions of COLMAP change the tables of a file they open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.errors import MappingError

_TABLES = (
    "CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, "
    "width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL)",
    "CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, "
    "camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL, prior_tx REAL, "
    "prior_ty REAL, prior_tz REAL, FOREIGN KEY(camera_id) REFERENCES cameras(camera_id))",
    "CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, "
    "data BLOB, FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE)",
    "CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, "
    "data BLOB, FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE)",
    "CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, "
    "data BLOB)",
    "CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, "
    "cols INTEGER NOT NULL, data BLOB, config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB)",
)


def read_prepared(path: Path) -> dict[str, pycolmap.Camera]:
    """Image name -> camera, in the order of the image ids.

    Raises:
        MappingError: not a COLMAP database, or damaged.
    """
    query = (
        "SELECT images.name, cameras.model, cameras.width, cameras.height, cameras.params "
        "FROM images JOIN cameras ON images.camera_id = cameras.camera_id ORDER BY images.image_id"
    )
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return {
                name: pycolmap.Camera(
                    model=pycolmap.CameraModelId(model), width=width, height=height, params=np.frombuffer(params, "<f8")
                )
                for name, model, width, height, params in connection.execute(query)
            }
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise MappingError(f"{path}: cannot be read as a COLMAP database ({error}); get the file again") from error


def write_prepared(path: Path, cameras: Mapping[str, pycolmap.Camera]) -> None:
    """Write a new database with these images, each with a camera of its own; ids are 1, 2, ... in their order."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in _TABLES:
            connection.execute(table)
        for number, (name, camera) in enumerate(cameras.items(), start=1):
            params = np.asarray(camera.params, "<f8").tobytes()
            row = (number, int(camera.model.value), camera.width, camera.height, params, 1)
            connection.execute("INSERT INTO cameras VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.execute(
                "INSERT INTO images (image_id, name, camera_id) VALUES (?, ?, ?)", (number, name, number)
            )
