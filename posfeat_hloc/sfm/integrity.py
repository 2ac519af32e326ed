"""Whether COLMAP's files are intact: binary models, whose lengths COLMAP never checks, and databases."""

from __future__ import annotations

import mmap
import sqlite3
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap

_COUNT = struct.Struct("<Q")
_SENSORS = struct.Struct("<I")
_IMAGE = 64  # bytes before the name: id, rotation, translation, camera
_POINT2D = 24
_POINT3D = 43  # bytes before the length of the track: id, place, color, error
_MODEL = struct.Struct("<i")
_CAMERA = 24  # bytes before the parameters
_PARAMETERS = {
    int(model): len(pycolmap.Camera.create_from_model_id(1, model, 1.0, 2, 2).params)
    for name, model in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}
_POSE = 56
_HEAD = 4096  # bytes of a record that are looked at: names are shorter


def check_lengths(folder: Path) -> None:
    """Walk through ``images.bin``, ``points3D.bin`` and what else is there, from record to record.

    A million points take half a second.

    Raises:
        ValueError: a file ends before all that it announces, or is missing; the message names it.
    """
    for name, following in _RECORDS.items():
        path = folder / name
        if not path.exists():
            if name in ("rigs.bin", "frames.bin"):  # models of earlier versions have none
                continue
            raise ValueError(f"there is no {name}")
        deque(_records(path, following), maxlen=0)


def image_names(path: Path) -> list[str]:
    """The names in an ``images.bin``, without reading its points.

    Raises:
        ValueError: it ends before all that it announces, or a name is not UTF-8.
    """
    return [record[_IMAGE : record.index(b"\0", _IMAGE)].decode() for record in _records(path, _after_image)]


def _records(path: Path, following: Callable[[mmap.mmap, int], int]) -> Iterator[bytes]:
    """The bytes of each record; ``following`` finds the end of the one at a place."""
    size = path.stat().st_size
    if size < _COUNT.size:
        raise ValueError(f"{path.name} is truncated")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (count,) = _COUNT.unpack_from(data, 0)
        place = _COUNT.size
        for _ in range(count):
            try:
                end = following(data, place)
            except (struct.error, EOFError) as error:
                raise ValueError(f"{path.name} is truncated") from error
            if end > size:
                raise ValueError(f"{path.name} is truncated")
            yield data[place : min(end, place + _HEAD)]
            place = end


def _after_camera(data: mmap.mmap, place: int) -> int:
    (model,) = _MODEL.unpack_from(data, place + 4)
    if model not in _PARAMETERS:
        raise ValueError(f"camera model {model} does not exist")
    return place + _CAMERA + _PARAMETERS[model] * 8


def _after_image(data: mmap.mmap, place: int) -> int:
    end = data.find(b"\0", place + _IMAGE) + 1
    if not end:
        raise EOFError
    (points,) = _COUNT.unpack_from(data, end)
    return int(end + _COUNT.size + points * _POINT2D)


def _after_point(data: mmap.mmap, place: int) -> int:
    (observations,) = _COUNT.unpack_from(data, place + _POINT3D)
    return int(place + _POINT3D + _COUNT.size + observations * 8)


def _after_rig(data: mmap.mmap, place: int) -> int:
    (sensors,) = _SENSORS.unpack_from(data, place + 4)
    place += 8 + (8 if sensors else 0)
    for _ in range(sensors - 1):
        place += 9 + (_POSE if data[place + 8 : place + 9] != b"\0" else 0)
        if place > len(data):
            break
    return place


def _after_frame(data: mmap.mmap, place: int) -> int:
    (images,) = _SENSORS.unpack_from(data, place + 8 + _POSE)
    return int(place + 8 + _POSE + _SENSORS.size + images * 16)


_RECORDS = {
    "cameras.bin": _after_camera,
    "images.bin": _after_image,
    "points3D.bin": _after_point,
    "rigs.bin": _after_rig,
    "frames.bin": _after_frame,
}


_MAX_IMAGES = 2147483647  # COLMAP's number that joins two image ids to one


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite's do."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def check_database(path: Path) -> dict[str, str]:
    """Table or row -> problem; empty for an intact database, which is only read."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            lines = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            if lines != ["ok"]:
                return {"the file": "; ".join(map(str, lines))}
            return _contents(connection)
    except (sqlite3.Error, ValueError, TypeError) as error:
        return {"the file": f"cannot be read as a COLMAP database ({error})"}


def _contents(connection: sqlite3.Connection) -> dict[str, str]:
    damaged = {}
    names = dict(connection.execute("SELECT image_id, name FROM images"))
    counts: dict[int, int] = dict.fromkeys(names, 0)
    for image, rows, columns, size in connection.execute("SELECT image_id, rows, cols, length(data) FROM keypoints"):
        counts[image] = rows
        if image not in names:
            damaged[f"keypoints of image {image}"] = "there is no such image"
        elif rows * columns * 4 != (size or 0):
            damaged[f"keypoints of {names[image]}"] = f"{rows} x {columns} numbers in {size} bytes"
    for table in ("matches", "two_view_geometries"):
        for pair, rows, columns, data in connection.execute(f"SELECT pair_id, rows, cols, data FROM {table}"):
            first, second = divmod(pair, _MAX_IMAGES)
            where = f"{table} of {names.get(first, first)} and {names.get(second, second)}"
            found = np.frombuffer(data or b"", np.uint8)
            if first not in names or second not in names:
                damaged[where] = "there is no such image"
            elif rows * columns * 4 != len(found) or (rows and columns != 2):
                damaged[where] = f"{rows} x {columns} indices in {len(found)} bytes"
            elif rows:
                top = found.view("<u4").reshape(-1, 2).max(axis=0)
                if top[0] >= counts[first] or top[1] >= counts[second]:
                    damaged[where] = "name keypoints that there are not"
    return damaged
