"""Poses of queries against true ones: errors, and the recall that visuallocalization.net prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError

Threshold = tuple[float, float]

THRESHOLDS: tuple[Threshold, ...] = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""Position in the unit of the poses (Aachen: metres) and angle in degrees, as on the benchmark's site since v1.1."""


@dataclass(frozen=True)
class QueryErrors:
    """Errors of queries; infinite for those that have no pose.

    Attributes:
        names: of the queries.
        position: ``(N,)`` distance of the camera centres.
        angle: ``(N,)`` of the turn between both cameras, in degrees.
    """

    names: list[str]
    position: NDArray[np.float64]
    angle: NDArray[np.float64]

    def recall(self, thresholds: Sequence[Threshold] = THRESHOLDS) -> list[float]:
        """Part of the queries within both limits of each threshold, 0 to 1; NaN without queries."""
        if not self.names:
            return [float("nan")] * len(thresholds)
        return [float(np.mean((self.position <= far) & (self.angle <= turn))) for far, turn in thresholds]


def query_errors(
    estimated: Mapping[str, pycolmap.Rigid3d], truth: Mapping[str, pycolmap.Rigid3d], names: Collection[str]
) -> QueryErrors:
    """Compare poses, both world to camera.

    Args:
        estimated: name -> pose; names may lack their folders, as in result files.
        truth: name -> pose, likewise.
        names: queries to compare, with folders; those without true pose are left out.

    Raises:
        ConfigurationError: none of the queries has a true pose.
    """
    kept = sorted(name for name in names if _find(truth, name) is not None)
    if names and not kept:
        raise ConfigurationError(f"none of the {len(names)} queries has a true pose; the first is {min(names)!r}")
    position, angle = np.full(len(kept), np.inf), np.full(len(kept), np.inf)
    for i, name in enumerate(kept):
        true, found = _find(truth, name), _find(estimated, name)
        if true is not None and found is not None:
            position[i] = np.linalg.norm(_centre(found) - _centre(true))
            angle[i] = np.degrees((found.rotation * true.rotation.inverse()).angle())
    return QueryErrors(kept, position, angle)


def _find(poses: Mapping[str, pycolmap.Rigid3d], name: str) -> pycolmap.Rigid3d | None:
    return poses.get(name, poses.get(name.rpartition("/")[2]))


def _centre(pose: pycolmap.Rigid3d) -> NDArray[np.float64]:
    return np.asarray(pose.inverse().translation, np.float64)
