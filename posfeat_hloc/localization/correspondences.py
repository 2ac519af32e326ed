"""Which keypoint of a query is which 3D point of the map, and which map images belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.features import Matches


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
