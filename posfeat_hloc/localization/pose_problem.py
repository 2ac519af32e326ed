"""One query: its matches with 3D points of the map, and the pose they give."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.features import Matches
from posfeat_hloc.geometry.acontrario import needed_pose_inliers
from posfeat_hloc.localization.absolute_pose import PoseEstimate, estimate_pose
from posfeat_hloc.localization.maps import MapExcerpt, SparseMap
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.localization.results import Localized


def to_points(matches: Matches, point_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Matches of a query with a map image as matches with 3D points.

    Args:
        matches: from the query to the map image.
        point_ids: ``(N,)`` 3D point of each keypoint of the map image, -1 for none.

    Returns:
        ``(M, 2)`` (keypoint of the query, 3D point).
    """
    pairs = matches.pairs()
    ids = point_ids[pairs[:, 1]]
    return np.stack([pairs[:, 0], ids], axis=1)[ids >= 0]


def merge(found: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Matches of several map images.

    Returns:
        ``(M, 2)``, each (keypoint, 3D point) once, sorted; and ``(M,)`` how many map images have it.
    """
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0, return_counts=True)


def most_voted(pairs: NDArray[np.int64], votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``(M,)`` which matches RANSAC tries first: of each keypoint the one that most map images have.

    A keypoint shows one 3D point, but is matched with about as many as there are map images; the false ones seldom
    agree. Of equally many, the first of the list is taken.

    Args:
        pairs, votes: see :func:`merge`.
    """
    order = np.lexsort((-votes, pairs[:, 0]))
    keypoints = pairs[order, 0]
    chosen = np.zeros(len(pairs), bool)
    chosen[order[np.diff(keypoints, prepend=-1) > 0]] = True
    return chosen


def covisibility_clusters(point_ids: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """Group map images that are connected by common 3D points, directly or through others of the list.

    Args:
        point_ids: 3D points of each image, -1 for none.

    Returns:
        positions in the list, in its order within a cluster; the largest cluster first, then by first members. As
        ``do_covisibility_clustering`` of hloc.
    """
    parents = list(range(len(point_ids)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    seen = [np.unique(ids[ids >= 0]) for ids in point_ids]
    ids = np.concatenate([np.zeros(0, np.int64), *seen])
    images = np.repeat(np.arange(len(seen)), [len(s) for s in seen])
    order = np.argsort(ids, kind="stable")  # images that see the same point stand side by side
    same = ids[order][1:] == ids[order][:-1]
    edges = np.stack([images[order][:-1][same], images[order][1:][same]], axis=1)
    for a, b in np.unique(edges, axis=0).tolist():
        low, high = sorted((root(a), root(b)))
        parents[high] = low
    clusters: dict[int, list[int]] = {}
    for i in range(len(point_ids)):
        clusters.setdefault(root(i), []).append(i)
    return sorted(clusters.values(), key=len, reverse=True)


METHOD = "highest-voted matches first"
"""How a pose is sought; another name makes the logs of earlier runs void."""

_DECIDING = ("max_error", "min_inliers", "seed", "covisibility_clustering")
"""Options that a pose depends on, in the order in which logs have them."""


@dataclass(frozen=True)
class PoseProblem:
    """All that the pose of one query depends on, besides the options.

    Attributes:
        query: name and camera.
        keypoints: ``(N, 2)`` of the query, in pixels, ``(0, 0)`` the centre of the top-left one.
        images: map images, the most similar first.
        matches: for each of them, ``(M, 2)`` (keypoint, 3D point).
        sparse: the map. A pickled problem holds the part of it that it needs.
    """

    query: Query
    keypoints: NDArray[np.float32]
    images: list[str]
    matches: list[NDArray[np.int64]]
    sparse: SparseMap | MapExcerpt

    @classmethod
    def of(
        cls, query: Query, keypoints: NDArray[np.float32], found: dict[str, Matches], sparse: SparseMap
    ) -> PoseProblem:
        """From matches of a query with map images; raises MappingError where they belong to other keypoints."""
        for image, matches in found.items():
            last = int(matches.indices.max(initial=-1))
            if len(matches.indices) != len(keypoints) or last >= len(sparse.point_ids(image)):
                raise MappingError(
                    f"{sparse.path}: the matches of {query.name!r} with {image!r} are of {len(matches.indices)} "
                    f"keypoints with up to {last + 1}, but the images have {len(keypoints)} and "
                    f"{len(sparse.point_ids(image))}; match again"
                )
        points = [to_points(matches, sparse.point_ids(image)) for image, matches in found.items()]
        return cls(query, keypoints, list(found), points, sparse)

    def __getstate__(self) -> dict[str, Any]:
        """All that another process needs to solve it."""
        return {**vars(self), "sparse": self.sparse.excerpt(self.images, merge(self.matches)[0][:, 1])}

    def solve(self, options: PoseOptions) -> Localized:
        """Estimate the pose, cluster by cluster if requested."""
        start = time.perf_counter()
        clusters = [list(range(len(self.images)))]
        if options.covisibility_clustering:
            clusters = covisibility_clusters([self.sparse.point_ids(image) for image in self.images])
        best = Localized(self.query.name, reason="no map image to match it with")
        for members in clusters:
            found = self._solve_cluster(members, options)
            if not best.images or (found.localized, found.inliers) > (best.localized, best.inliers):
                best = found
        return replace(best, clusters=len(clusters), seconds=time.perf_counter() - start)

    def _solve_cluster(self, members: list[int], options: PoseOptions) -> Localized:
        pairs, votes = merge([self.matches[i] for i in members])
        camera = self.query.camera
        points2d = self.keypoints[pairs[:, 0]].astype(np.float64) + 0.5  # COLMAP's convention
        estimate = estimate_pose(
            points2d,
            self.sparse.positions(pairs[:, 1]),
            camera,
            self.query.calibrated,
            options.max_error,
            options.seed,
            most_voted(pairs, votes),
        )
        images = tuple(self.images[i] for i in members)
        return _judge(self.query.name, images, pairs[:, 1], estimate, (camera.width, camera.height), options)

    def key(self, options: PoseOptions) -> str:
        """Changes with anything that :meth:`solve` depends on."""
        given = {name: getattr(options, name) for name in _DECIDING}
        camera = self.query.camera
        known = [self.query.name, camera.model_name, camera.width, camera.height, camera.params.tolist()]
        known += [camera.has_prior_focal_length, self.query.calibrated, self.images, given, pycolmap.__version__]
        known += [METHOD]
        digest = hashlib.blake2b(repr(known).encode(), digest_size=16)
        digest.update(self.keypoints.tobytes())
        for image, pairs in zip(self.images, self.matches, strict=True):
            digest.update(np.ascontiguousarray(pairs).tobytes())
            digest.update(self.sparse.positions(pairs[:, 1]).tobytes())
            if options.covisibility_clustering:
                digest.update(self.sparse.point_ids(image).tobytes())
        return digest.hexdigest()


def _judge(
    name: str,
    images: tuple[str, ...],
    points: NDArray[np.int64],
    estimate: PoseEstimate | None,
    size: tuple[int, int],
    options: PoseOptions,
) -> Localized:
    """Accept a pose that enough different 3D points support."""
    result = Localized(name, matches=len(points), images=images)
    if estimate is None:
        return replace(result, reason=f"no pose fits its {len(points)} matches with 3D points")
    support = len(np.unique(points[estimate.inliers]))
    result = replace(result, inliers=int(estimate.inliers.sum()))
    needed = max(options.min_inliers, needed_pose_inliers(len(points), options.max_error, size))
    if support < needed:
        reason = f"inliers at {support} 3D points among {len(points)} matches; {needed} are needed"
        return replace(result, reason=reason)
    return replace(
        result, cam_from_world=estimate.cam_from_world, focal_length=float(estimate.camera.mean_focal_length())
    )
