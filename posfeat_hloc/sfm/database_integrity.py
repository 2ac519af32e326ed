"""Whether a COLMAP database is intact: SQLite's own check, and the sizes and ranges of what it holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

_MAX_IMAGES = 2147483647  # COLMAP's number that joins two image ids to one


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite's do."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def check_database(path: Path) -> dict[str, str]:
    """Table or row -> what is wrong with it; empty for an intact database, which is only read."""
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
