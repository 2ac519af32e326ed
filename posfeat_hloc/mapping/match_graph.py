"""What a COLMAP database knows of pairs of images: how many matches, how many survived verification, and which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.mapping.pairs import Pair

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairCounts:
    """Matches of a pair before and after verification."""

    matches: int
    inliers: int


class MatchGraph:
    """Images as nodes, verified pairs as edges; counts are in memory, matches are read on demand.

    Args:
        path: of the database.

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
        try:
            self._db = pycolmap.Database.open(path)
            images = sorted(self._db.read_all_images(), key=lambda image: image.name)
            cameras = {camera.camera_id: camera for camera in self._db.read_all_cameras()}
            self._ids: dict[str, int] = {image.name: image.image_id for image in images}
            self.keypoints = {name: int(self._db.num_keypoints_for_image(i)) for name, i in self._ids.items()}
            self.cameras: dict[str, pycolmap.Camera] = {image.name: cameras[image.camera_id] for image in images}
            self.pairs = self._counts()
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise MappingError(f"{path}: cannot be read as a COLMAP database ({error})") from error
        self.positions = lru_cache(maxsize=64)(self._positions)
        self._neighbors: dict[str, list[str]] = {name: [] for name in self._ids}
        for (name0, name1), counts in sorted(self.pairs.items(), key=lambda item: -item[1].inliers):
            if counts.inliers:
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

    def geometry(self, name0: str, name1: str) -> pycolmap.TwoViewGeometry:
        """The two-view geometry of a verified pair, from image 0 to image 1."""
        return self._db.read_two_view_geometry(self._ids[name0], self._ids[name1])

    def inliers(self, name0: str, name1: str) -> NDArray[np.int64]:
        """``(K, 2)`` indices of keypoints in image 0 and image 1."""
        return np.asarray(self.geometry(name0, name1).inlier_matches, np.int64).reshape(-1, 2)

    def _positions(self, name: str) -> Array:
        """``(N, 2)`` keypoints in COLMAP's pixels."""
        return np.asarray(self._db.read_keypoints(self._ids[name]), np.float64)[:, :2].reshape(-1, 2)

    def components(self) -> list[list[str]]:
        """Sets of images that verified pairs connect, the largest first; each is sorted."""
        return connected_components(self._neighbors)

    def _counts(self) -> dict[Pair, PairCounts]:
        names = {number: name for name, number in self._ids.items()}
        matches = dict(zip(*self._db.read_num_matches(), strict=True))
        inliers = dict(zip(*self._db.read_two_view_geometry_num_inliers(), strict=True))
        found = {}
        for pair_id in sorted({*matches, *inliers}):
            name0, name1 = (names[number] for number in pycolmap.pair_id_to_image_pair(pair_id))
            kept = int(inliers.get(pair_id, 0))
            found[_ordered(name0, name1)] = PairCounts(max(int(matches.get(pair_id, 0)), kept), kept)
        return found

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> MatchGraph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


def _ordered(name0: str, name1: str) -> Pair:
    return (name0, name1) if name0 <= name1 else (name1, name0)
