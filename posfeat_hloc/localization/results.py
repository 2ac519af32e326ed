"""Results of queries: the value, the log of a run as JSON Lines, pose files, and ground-truth poses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pycolmap

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.evaluation.poses import TrueCamera
from posfeat_hloc.localization.options import NameForm
from posfeat_hloc.runtime.output import write_atomically
from posfeat_hloc.runtime.text_files import JsonLines, complete_lines, numbered_lines, write_lines
from posfeat_hloc.sfm.models import posed_images, read_model


@dataclass(frozen=True)
class Localized:
    """Result of one query.

    Attributes:
        name: of the query.
        cam_from_world: its pose; None where it is not localized and no fallback was asked for.
        matches: pairs of keypoint and 3D point, each counted once.
        inliers: how many of them fit the pose.
        focal_length: mean of both axes in pixels, as given or as estimated; 0 where not localized.
        images: map images whose matches were used (with clustering: the best cluster).
        clusters: clusters that were tried.
        seconds: for clustering and pose.
        reason: why the query is not localized, empty where it is.
        fallback: the map image whose pose was taken instead, empty for a pose of its own.
        rotation: degrees clockwise by which the image was rotated for its features; the pose is that of the image as
            it is.
    """

    name: str
    cam_from_world: pycolmap.Rigid3d | None = None
    matches: int = 0
    inliers: int = 0
    focal_length: float = 0.0
    images: tuple[str, ...] = ()
    clusters: int = 0
    seconds: float = 0.0
    reason: str = ""
    fallback: str = ""
    rotation: int = 0

    @property
    def localized(self) -> bool:
        """Whether its own matches gave the pose."""
        return not self.reason

    def as_dict(self) -> dict[str, Any]:
        """For JSON; numbers survive to the last digit."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["cam_from_world"]
        pose = None
        if self.cam_from_world is not None:
            x, y, z, w = self.cam_from_world.rotation.quat.tolist()
            pose = {"qvec": [w, x, y, z], "tvec": self.cam_from_world.translation.tolist()}
        return {**values, "images": list(self.images), "localized": self.localized, "cam_from_world": pose}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Localized:
        """Inverse of :meth:`as_dict`; KeyError, TypeError or ValueError for anything else."""
        values = {**values}
        values.setdefault("rotation", values.get("turned", 0))  # logs of earlier versions have that name, or none
        given = {field.name: values[field.name] for field in fields(cls)}
        if (pose := given["cam_from_world"]) is not None:
            w, x, y, z = pose["qvec"]
            rotation = pycolmap.Rotation3d(np.array([x, y, z, w], np.float64))
            given["cam_from_world"] = pycolmap.Rigid3d(rotation, np.array(pose["tvec"], np.float64))
        return cls(**{**given, "images": tuple(given["images"])})


class Log:
    """Records of queries in a JSON Lines file, written one by one and read back by the next run.

    While a run lasts, lines are added; :meth:`finish` leaves one line for each query of this run, in their order. A
    line that a killed run left incomplete is dropped.

    Args:
        path: of the file; None keeps no log.

    Raises:
        ConfigurationError: the file is not a log of queries.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._earlier: dict[tuple[str, str], Localized] = {}
        self._lines: list[str] = []
        self._file: JsonLines | None = None
        if path is None:
            return
        if path.exists():
            self._earlier = _read_records(path)
        self._file = JsonLines(path)

    def find(self, name: str, key: str) -> Localized | None:
        """The record of an earlier run that was made from the same inputs."""
        return self._earlier.get((name, key))

    def add(self, key: str, found: Localized) -> None:
        """Write the record of a query; a process that is killed afterwards keeps it."""
        record = {**found.as_dict(), "key": key}
        self._lines.append(json.dumps(record, ensure_ascii=False))
        if self._file is not None and (found.name, key) not in self._earlier:
            self._file.add(record)

    def finish(self) -> None:
        """Leave the records of this run only."""
        self.close()
        if self.path is not None:
            write_lines(self.path, self._lines)

    def close(self) -> None:
        """Stop writing; lines written so far stay."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: Path) -> dict[str, Localized]:
    """Query name -> its record, of a finished log.

    Raises:
        ConfigurationError: no such file, or not a log of queries.
    """
    return {name: found for (name, _), found in _read_records(path).items()}


def amend_log(path: Path, changed: Mapping[str, Localized]) -> None:
    """Replace the records of some queries in a finished log.

    They have no key: :class:`Log` does not take them for what the queries' own inputs gave.
    """
    lines = complete_lines(path) if changed else []
    for number, line in enumerate(lines):
        if (name := json.loads(line)["name"]) in changed:
            lines[number] = json.dumps({**changed[name].as_dict(), "key": ""}, ensure_ascii=False)
    if changed:
        write_lines(path, lines)


def _read_records(path: Path) -> dict[tuple[str, str], Localized]:
    try:
        lines = complete_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a log of queries ({error})") from error
    records = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            records[values["name"], values["key"]] = Localized.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{path}, line {number}: not a record of a query ({error!r}); delete the file or choose another output"
            ) from error
    return records


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
    poses: dict[str, pycolmap.Rigid3d] = {}
    for number, line in numbered_lines(path, "a file of poses"):
        name, *words = line.rsplit(maxsplit=7)
        if line.startswith("#") and not _is_pose(words):
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


def read_true_poses(path: Path, names: Sequence[str]) -> dict[str, TrueCamera]:
    """True poses of queries, from a COLMAP model or from a file ``name qw qx qy qz tx ty tz``.

    Args:
        path: folder of the model, or the file.
        names: of the queries; where a file has none of a name, the name without folders is looked up.

    Returns:
        name of the query -> camera, for those whose pose is known.

    Raises:
        MappingError, ConfigurationError: nothing can be read, or it holds none of the queries.
    """
    if path.is_dir():
        poses = {name: image.cam_from_world() for name, image in posed_images(read_model(path)).items()}
    else:
        poses = read_results(path)
    result = {}
    for name in names:
        pose = poses.get(name, poses.get(name.rpartition("/")[2]))
        if pose is not None:
            result[name] = TrueCamera(pose.rotation.matrix(), pose.inverse().translation)
    if not result:
        raise MappingError(f"{path}: holds the pose of none of the {len(names)} queries; check their names")
    return result
