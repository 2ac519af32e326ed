"""A COLMAP model as localization reads it: which keypoint of which image is which 3D point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc import confs
from posfeat_hloc.errors import MappingError, Option
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.stores import FeatureStore

_SAMPLED = 20  # images that stand for the map
_CHECKED = 50  # keypoints of an image whose positions are compared with the feature file


@dataclass(frozen=True)
class MapExcerpt:
    """Part of a map, small enough to travel to another machine.

    Attributes:
        observed: image name -> ``(N,)`` 3D point of each keypoint, -1 for none.
        ids: ``(M,)`` of 3D points, sorted.
        xyz: ``(M, 3)`` their positions.
    """

    observed: dict[str, NDArray[np.int64]]
    ids: NDArray[np.int64]
    xyz: NDArray[np.float64]

    def point_ids(self, name: str) -> NDArray[np.int64]:
        """As :meth:`SparseMap.point_ids`."""
        return self.observed[name]

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """As :meth:`SparseMap.positions`."""
        return self.xyz[np.searchsorted(self.ids, ids)]

    def excerpt(self, images: Sequence[str], ids: NDArray[np.int64]) -> MapExcerpt:
        """The same excerpt: it holds no more than was asked for."""
        return self


class SparseMap:
    """A model whose points2D are the keypoints of a feature file, in its order.

    Attributes:
        path: folder of the model.
        names: of the images that have a pose, sorted.

    Raises:
        MappingError: no model can be read from the folder, or none of its images has a pose.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = read_model(path)
        self._images = {image.name: image for image in self._model.images.values() if image.has_pose}
        self._point_ids: dict[str, NDArray[np.int64]] = {}
        self.names = sorted(self._images)
        if not self.names:
            raise MappingError(f"{path}: no image of this model has a pose")

    def __contains__(self, name: str) -> bool:
        return name in self._images

    def cam_from_world(self, name: str) -> pycolmap.Rigid3d:
        """The pose of an image of the map."""
        return self._images[name].cam_from_world()

    def point_ids(self, name: str) -> NDArray[np.int64]:
        """``(N,)`` the 3D point of each keypoint of an image, -1 for none."""
        if name not in self._point_ids:
            ids = np.array([point.point3D_id for point in self._images[name].points2D], np.uint64)
            signed = ids.astype(np.int64)  # COLMAP's mark for none is 2^64 - 1
            if signed.min(initial=0) < -1:
                raise MappingError(f"{self.path}: damaged, {name!r} sees impossible points; get the model again")
            self._point_ids[name] = signed
        return self._point_ids[name]

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(M, 3)`` of 3D points by their ids."""
        known, places = self._table
        rows = np.minimum(np.searchsorted(known, ids), max(0, len(known) - 1))
        if (lacking := ids[known[rows] != ids] if len(known) else ids).size:
            raise MappingError(
                f"{self.path}: damaged, an image sees the point {lacking[0]}, which is not there; get the model again"
            )
        return places[rows]

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids of all 3D points, ascending, and where they are."""
        points = self._model.points3D
        known = np.fromiter(points, np.int64, len(points))
        places = np.array([point.xyz for point in points.values()], np.float64).reshape(-1, 3)
        order = np.argsort(known)
        return known[order], places[order]

    def excerpt(self, images: Sequence[str], ids: NDArray[np.int64]) -> MapExcerpt:
        """What a query needs that matches some images and, with them, some 3D points."""
        ids = np.unique(ids)
        return MapExcerpt({name: self.point_ids(name) for name in images}, ids, self.positions(ids))

    def check_features(self, features: FeatureStore, names: Sequence[str] | None = None) -> None:
        """Check that the model was made from the features of a file.

        Args:
            features: of the map.
            names: images to look at; when None some, evenly spread.

        Raises:
            MappingError: an image has another number of keypoints in the model, or has them at other places.
            StoreError: an image is not in the file.
        """
        if names is None:
            names = self.names[:: 1 + (len(self.names) - 1) // _SAMPLED]
        for name in names:
            points, keypoints = self._images[name].points2D, features.keypoints(name)
            problem = ""
            if len(points) != len(keypoints):
                problem = f"has {len(points)} keypoints in the model and {len(keypoints)} in {features.path}"
            elif len(points):
                rows = np.linspace(0, len(points) - 1, _CHECKED).astype(int)
                places = np.array([points[int(row)].xy for row in rows]) - 0.5
                distance = float(np.abs(places - keypoints[rows]).max())
                if distance > 1:
                    problem = f"has keypoints in the model that lie {distance:.1f} px from those in {features.path}"
            if problem:
                raise MappingError(
                    f"{self.path}: {name!r} {problem} ({confs.name_of(features.configuration)}): the map was made with "
                    "another feature or other settings; give the feature file that it was made from, or make a map of "
                    "this feature: posfeat-hloc triangulate ",
                    Option("model", self.path),
                    " ",
                    Option("images", "DIR"),
                    " ",
                    Option("output", "DIR"),
                )
