"""Result files as visuallocalization.net takes them: ``name qw qx qy qz tx ty tz`` a line, world to camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pycolmap

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.localization.options import NameForm
from posfeat_hloc.runtime.output import write_atomically

NAMES = get_args(NameForm)


def write_results(path: Path, poses: Mapping[str, pycolmap.Rigid3d], names: str = "file") -> None:
    """Write poses of queries, sorted by name; the file is complete or as it was.

    Args:
        path: of the file.
        poses: query name -> pose, world to camera.
        names: ``file``: names without their folders, as for Aachen; ``camera``: with the last folder, which names the
            camera in RobotCar and CMU; ``path``: as they are.

    Raises:
        ConfigurationError: two queries would have the same name in the file.
    """
    short = result_names(list(poses), names)
    lines = []
    for name in sorted(poses):
        x, y, z, w = poses[name].rotation.quat.tolist()
        lines.append(" ".join([short[name], *map(repr, [w, x, y, z, *poses[name].translation.tolist()])]) + "\n")
    write_atomically(path, "".join(lines))


def result_names(queries: Sequence[str], names: str = "file") -> dict[str, str]:
    """Query name -> its name in a result file; see :func:`write_results`."""
    if names not in NAMES:
        raise ConfigurationError(f"names of results {names!r} do not exist; choose from {', '.join(NAMES)}")
    kept = {"file": 1, "camera": 2, "path": 0}[names]
    owners: dict[str, str] = {}
    for query in queries:
        short = "/".join(query.split("/")[-kept:])
        if owners.setdefault(short, query) != query:
            raise ConfigurationError(
                f"{owners[short]!r} and {query!r} would both be called {short!r} in the result file; "
                "use names with their folders (camera or path)"
            )
    return {query: short for short, query in owners.items()}


def read_results(path: Path) -> dict[str, pycolmap.Rigid3d]:
    """Read poses as :func:`write_results` or hloc wrote them; names may contain spaces and begin with ``#``.

    Raises:
        ConfigurationError: no such file, a line of another form, or a name that occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a file of poses ({error})") from error
    poses: dict[str, pycolmap.Rigid3d] = {}
    for number, line in enumerate(lines, start=1):
        name, *words = line.rsplit(maxsplit=7) or [""]
        if not line.strip() or (line.startswith("#") and not _is_pose(words)):
            continue
        try:
            w, x, y, z, *translation = (float(word) for word in words)
            norm = float(np.linalg.norm([w, x, y, z]))
            if len(translation) != 3 or not np.isfinite([norm, *translation]).all() or abs(norm - 1) > 0.01:
                raise ValueError("seven numbers, the first four a unit quaternion")
        except ValueError as error:
            raise ConfigurationError(
                f"{path}, line {number}: not of the form 'name qw qx qy qz tx ty tz' ({error}): {line!r}"
            ) from error
        if name.strip() in poses:
            raise ConfigurationError(f"{path}, line {number}: {name.strip()!r} occurs twice; remove one line")
        rotation = pycolmap.Rotation3d(np.array([x, y, z, w]) / norm)
        poses[name.strip()] = pycolmap.Rigid3d(rotation, np.array(translation))
    return poses


def _is_pose(words: Sequence[str]) -> bool:
    """Whether a line that starts with ``#`` is one of an image whose name does, and no comment."""
    try:
        return len([float(word) for word in words]) == 7
    except ValueError:
        return False
