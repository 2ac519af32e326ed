"""One query: its matches with 3D points of the map, and the pose they give."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.features import Matches
from posfeat_hloc.geometry.acontrario import needed_pose_inliers
from posfeat_hloc.localization.absolute_pose import PoseEstimate, estimate_pose
from posfeat_hloc.localization.correspondences import covisibility_clusters, merge, most_voted, to_points
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.queries import Query
from posfeat_hloc.localization.results_log import Localized
from posfeat_hloc.localization.sparse_map import MapExcerpt, SparseMap

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
        """Estimate the pose, cluster by cluster where that is asked for."""
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
