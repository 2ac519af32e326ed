"""How queries are localized. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.options import THRESHOLDS, Threshold, read_thresholds
from posfeat_hloc.runtime.options import AtLeast, Choices, OrientationMode, Reads, Unit, check_options
from posfeat_hloc.sfm.options import DEFAULT_RETRIEVAL, MatcherName, RetrievalName

NameForm = Literal["file", "camera", "path"]


@dataclass(frozen=True)
class PoseOptions:
    """How poses are found. Raises ConfigurationError for a fallback that does not exist or a limit below zero."""

    max_error: Annotated[float, Unit("PX")] = 12.0
    """Largest reprojection error of an inlier, in pixels."""
    min_inliers: Annotated[int, AtLeast(0), Unit("N")] = 12
    """Minimum number of different 3D points among the inliers; more where random matches would give as many."""
    seed: int = 0
    """Seed of the RANSAC of each query; the result does not depend on the number of threads."""
    covisibility_clustering: bool = False
    """Try groups of map images without common 3D points separately and keep the one with most inliers."""
    fallback: Literal["closest"] | None = None
    """Give queries that are not localized the pose of their first map image, as benchmarks allow.

    There a wrong pose costs nothing; the query still counts as not localized.
    """
    threads: Annotated[int, Unit("N")] = -1
    """Threads for poses, which do not depend on it (default: all cores)."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.max_error <= 0:
            raise ConfigurationError("max_error must be positive")
        if not 0 <= self.seed < 2**31:
            raise ConfigurationError(f"seed must be from 0 to 2147483647, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class LocalizationOptions(PoseOptions):
    """How photographs are localized in a map; see :func:`posfeat_hloc.localization.pipeline.localize`."""

    images: Annotated[Path | None, Unit("DIR")] = None
    """Folder of a list's photographs (default: the folder of the list)."""
    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints of queries where DIR/<query name>.png (or the same stem) is black."""
    map_features: Annotated[Path | None, Unit("FILE")] = None
    """Features the map was made from (default: its features.h5)."""
    feature: Annotated[str | None, Choices.of(confs.extractors)] = None
    """The map's feature; needed only where its file does not record it."""
    weights: Annotated[str | None, Unit("NAME|FILE")] = None
    """Weights of the map's feature, where the map does not record them."""
    matcher: MatcherName = None
    """Matcher (default: that of the feature)."""
    pairs: Annotated[Path | None, Unit("FILE")] = None
    """one line 'query map-image' per pair, most similar first (default: all with all)."""
    neighbors: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Match each query with the N most similar map images only."""
    retrieval: RetrievalName = DEFAULT_RETRIEVAL
    """Global descriptor for neighbors."""
    map_images: Annotated[Path | None, Unit("DIR")] = None
    """Photographs of the map, for neighbors (default: where the map found them)."""
    orientation: OrientationMode = "auto"
    """Rotation of images for feature extraction; cameras and keypoints stay in the pixels as stored. exif: by the EXIF
    tag; auto: also rotated images without a tag are found; none: as stored."""
    try_rotations: bool = False
    """Rotate queries by 90, 180 and 270 degrees while they have few inliers, at up to three times the extraction time;
    for maps made with exif whose photographs are not available."""
    names: NameForm = "file"
    """Names in poses.txt: without folders, with the last one, or whole."""
    ground_truth: Annotated[Path | None, Unit("FILE|MODEL")] = None
    """Ground truth: one line 'name qw qx qy qz tx ty tz' per query, or a COLMAP model in the map's frame."""
    thresholds: Annotated[tuple[Threshold, ...], Reads(read_thresholds), Unit("'D,A D,A ...'")] = THRESHOLDS
    """Distances and degrees for recall (default: 0.25,2 0.5,5 5,10)."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    ray: Annotated[str | None, Unit("ADDRESS")] = None
    """Work on a Ray cluster: local, local:N (N processes on this machine), auto (the cluster this machine is in) or
    HOST:PORT."""
