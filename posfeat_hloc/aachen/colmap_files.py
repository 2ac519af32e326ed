"""COLMAP's files without COLMAP: binary models, point by point, and the database that the challenge hands out.

Models of millions of points never are in memory; files are in the form before rigs and frames, which every version of
COLMAP reads. The database holds names and cameras of all images in the schema of 2018; it is read and written with
SQLite alone, because current versions of COLMAP change the tables of a file they open.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm import integrity

_IMAGE = struct.Struct("<I7dI")  # id, rotation (w, x, y, z), translation, camera
_POINT = struct.Struct("<Q3d3BdQ")  # id, place, color, error, length of the track
_POINT2D = np.dtype([("xy", "<f8", 2), ("point3D", "<i8")])


@dataclass(frozen=True)
class PosedImage:
    """An image of a model.

    Attributes:
        image_id, camera_id: from 1.
        name: relative to the image folder.
        rotation: world to camera as a quaternion (w, x, y, z).
        translation: ``(3,)``; ``x = R X + t``.
    """

    image_id: int
    camera_id: int
    name: str
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]


def write_cameras(path: Path, cameras: Sequence[pycolmap.Camera]) -> None:
    """Write ``cameras.bin``; ids are 1, 2, ... in the order given."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, camera in enumerate(cameras, start=1):
            file.write(struct.pack("<IiQQ", number, int(camera.model.value), camera.width, camera.height))
            file.write(np.asarray(camera.params, "<f8").tobytes())


def write_images(
    path: Path, images: Iterable[tuple[PosedImage, NDArray[np.float64], NDArray[np.int64]]], count: int
) -> None:
    """Write ``images.bin`` from images with their 2D points.

    Args:
        path: of the file.
        images: each with ``(N, 2)`` places in COLMAP's pixels and ``(N,)`` ids of their 3D points.
        count: number of images.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<Q", count))
        for image, places, points in images:
            file.write(_IMAGE.pack(image.image_id, *image.rotation, *image.translation, image.camera_id))
            file.write(image.name.encode() + b"\0")
            file.write(struct.pack("<Q", len(places)))
            records = np.empty(len(places), _POINT2D)
            records["xy"], records["point3D"] = places, points
            file.write(records.tobytes())


def write_point(
    file: BinaryIO, point_id: int, place: Sequence[float], color: Sequence[int], track: Sequence[int]
) -> None:
    """Append a 3D point to ``points3D.bin``, which begins with their number as a 64-bit integer.

    Args:
        file: open for writing.
        point_id: from 1.
        place: (x, y, z).
        color: (red, green, blue).
        track: image id, index of the 2D point, and so on for each observation.
    """
    file.write(_POINT.pack(point_id, *place, *color, -1.0, len(track) // 2))  # COLMAP's mark of an unknown error
    file.write(struct.pack(f"<{len(track)}I", *track))


def image_names(model: Path) -> list[str]:
    """Names of the images of a model, without reading its points.

    Raises:
        MappingError: there is no ``images.bin`` or ``images.txt``, or it is damaged.
    """
    binary, text = model / "images.bin", model / "images.txt"
    try:
        if binary.exists():
            return integrity.image_names(binary)
        lines = [line for line in text.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return [line.split(maxsplit=9)[9] for line in lines[::2] if line.strip()]
    except OSError as error:
        raise MappingError(f"{model}: holds no images.bin or images.txt of a COLMAP model") from error
    except (IndexError, ValueError) as error:
        raise MappingError(f"{model}: the list of images is damaged ({error}); get the model again") from error


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
