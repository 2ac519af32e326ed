"""What became of each query: the value, and the log of a run as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.runtime.resume import JsonLines, complete_lines, write_lines


@dataclass(frozen=True)
class Localized:
    """What became of one query.

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
        turned: degrees clockwise by which the image was turned for its features; the pose is that of the image as
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
    turned: int = 0

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
        values = {"turned": 0, **values}  # which logs of earlier versions do not have
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
            self._earlier = _read(path)
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
    return {name: found for (name, _), found in _read(path).items()}


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


def _read(path: Path) -> dict[tuple[str, str], Localized]:
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
