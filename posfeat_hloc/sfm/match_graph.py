"""What a COLMAP database knows of pairs of images: how many matches, how many survived verification, and which.

It is read with SQLite alone: COLMAP writes to every database that it opens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.stores.pairs import Pair

Array = NDArray[np.float64]

_CAMERAS = (
    "SELECT images.name, images.image_id, cameras.model, cameras.width, cameras.height, cameras.params, "
    "cameras.prior_focal_length FROM images JOIN cameras ON images.camera_id = cameras.camera_id ORDER BY images.name"
)


@dataclass(frozen=True)
class PairCounts:
    """Matches of a pair before and after verification."""

    matches: int
    inliers: int


@dataclass(frozen=True)
class PairGeometry:
    """The two-view geometry of a pair.

    Attributes:
        config: what COLMAP found the pair to be.
        F: ``(3, 3)`` fundamental matrix from image 0 to image 1, None where there is none.
        H: ``(3, 3)`` homography from image 0 to image 1, None where there is none.
        inliers: ``(K, 2)`` indices of keypoints in image 0 and image 1.
    """

    config: pycolmap.TwoViewGeometryConfiguration
    F: Array | None
    H: Array | None
    inliers: NDArray[np.int64]


class MatchGraph:
    """Images as nodes, verified pairs as edges; counts are in memory, matches are read on demand.

    Args:
        path: of the database, which is not written to.

    Raises:
        MappingError: the file is not a COLMAP database.

    Attributes:
        keypoints: image name -> number of its keypoints; names are sorted.
        cameras: image name -> camera as in the database, which reconstruction does not refine.
        pairs: (name, name), in the order of names -> counts; pairs with at least one match.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MappingError(f"{path}: no such database")
        log = path.with_name(path.name + "-wal")  # of a process that was killed, or is at work
        mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        self.path = path
        with self._damage():
            self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)
            rows = self._connection.execute(_CAMERAS).fetchall()
            self._ids: dict[str, int] = {name: number for name, number, *_ in rows}
            self.cameras = {name: _camera(*values) for name, _, *values in rows}
            counts = dict(self._connection.execute("SELECT image_id, rows FROM keypoints"))
            self.keypoints = {name: int(counts.get(number, 0)) for name, number in self._ids.items()}
            self.pairs = self._counts()
        self.positions = lru_cache(maxsize=64)(self._positions)
        self._neighbors: dict[str, list[str]] = {name: [] for name in self._ids}
        for (name0, name1), counted in sorted(self.pairs.items(), key=lambda item: -item[1].inliers):
            if counted.inliers:
                self._neighbors[name0].append(name1)
                self._neighbors[name1].append(name0)

    @property
    def names(self) -> list[str]:
        """All images, sorted."""
        return list(self._ids)

    @property
    def verified(self) -> dict[Pair, PairCounts]:
        """Pairs that passed verification, the one with most inliers first."""
        found = [(pair, counts) for pair, counts in self.pairs.items() if counts.inliers]
        return dict(sorted(found, key=lambda item: (-item[1].inliers, item[0])))

    def neighbors(self, name: str) -> list[str]:
        """Images that share a verified pair with this one, the one with most inliers first."""
        return self._neighbors[name]

    def counts(self, name0: str, name1: str) -> PairCounts:
        """Of a pair in either order; zeros where it has no matches."""
        return self.pairs.get(_ordered(name0, name1), PairCounts(0, 0))

    def geometry(self, name0: str, name1: str) -> PairGeometry:
        """The two-view geometry of a verified pair, from image 0 to image 1."""
        query = "SELECT config, rows, data, F, H FROM two_view_geometries WHERE pair_id = ?"
        ids = self._ids[name0], self._ids[name1]
        with self._damage():
            row = self._connection.execute(query, (pycolmap.image_pair_to_pair_id(*ids),)).fetchone()
            config, count, data, *matrices = row
            F, H = (np.frombuffer(m, "<f8").reshape(3, 3) if m else None for m in matrices)
            inliers = np.frombuffer(data or b"", "<u4").reshape(count, 2).astype(np.int64)
        if ids[0] > ids[1]:  # stored from the smaller id to the larger
            F = None if F is None else F.T
            H = None if H is None or np.linalg.det(H) == 0 else np.linalg.inv(H)
            inliers = inliers[:, ::-1]
        return PairGeometry(pycolmap.TwoViewGeometryConfiguration(config), F, H, inliers)

    def inliers(self, name0: str, name1: str) -> NDArray[np.int64]:
        """``(K, 2)`` indices of keypoints in image 0 and image 1."""
        return self.geometry(name0, name1).inliers

    def _positions(self, name: str) -> Array:
        """``(N, 2)`` keypoints in COLMAP's pixels."""
        query = "SELECT rows, cols, data FROM keypoints WHERE image_id = ?"
        with self._damage():
            rows, columns, data = self._connection.execute(query, (self._ids[name],)).fetchone() or (0, 2, b"")
            return np.frombuffer(data or b"", "<f4").reshape(rows, columns)[:, :2].astype(np.float64)

    def components(self) -> list[list[str]]:
        """Sets of images that verified pairs connect, the largest first; each is sorted."""
        return connected_components(self._neighbors)

    def _counts(self) -> dict[Pair, PairCounts]:
        names = {number: name for name, number in self._ids.items()}
        matches = dict(self._connection.execute("SELECT pair_id, rows FROM matches WHERE rows > 0"))
        inliers = dict(self._connection.execute("SELECT pair_id, rows FROM two_view_geometries WHERE rows > 0"))
        found = {}
        for pair_id in sorted({*matches, *inliers}):
            name0, name1 = (names[number] for number in pycolmap.pair_id_to_image_pair(pair_id))
            kept = int(inliers.get(pair_id, 0))
            found[_ordered(name0, name1)] = PairCounts(max(int(matches.get(pair_id, 0)), kept), kept)
        return found

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Say of which file SQLite complains."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            raise MappingError(f"{self.path}: cannot be read as a COLMAP database ({error})") from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def __enter__(self) -> MatchGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connected_components(neighbors: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Components of an undirected graph given by the neighbours of each node, the largest first; each is sorted."""
    left, found = dict.fromkeys(sorted(neighbors)), []
    while left:
        start = next(iter(left))
        del left[start]
        component, waiting = [start], [start]
        while waiting:
            for name in neighbors[waiting.pop()]:
                if name in left:
                    del left[name]
                    component.append(name)
                    waiting.append(name)
        found.append(sorted(component))
    return sorted(found, key=lambda component: (-len(component), component))


def _camera(model: int, width: int, height: int, params: bytes, prior: int) -> pycolmap.Camera:
    camera = pycolmap.Camera(
        model=pycolmap.CameraModelId(model), width=width, height=height, params=np.frombuffer(params, "<f8")
    )
    camera.has_prior_focal_length = bool(prior)
    return camera


def _ordered(name0: str, name1: str) -> Pair:
    return (name0, name1) if name0 <= name1 else (name1, name0)
