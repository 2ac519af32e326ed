"""Options of Aachen Day-Night. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.options import THRESHOLDS, Threshold, read_thresholds
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.runtime.options import AtLeast, Flag, OrientationMode, Reads, Unit, check_options
from posfeat_hloc.sfm.options import DEFAULT_RETRIEVAL, FeatureOptions, RetrievalName

Version = Literal["v1", "v1.1"]
Protocol = Literal["hloc", "challenge"]
Layout = Literal["hloc", "posfeat"]


@dataclass(frozen=True, kw_only=True)
class AachenOptions(PoseOptions, FeatureOptions):
    """How the benchmark is run; see :func:`posfeat_hloc.aachen.pipeline.run_aachen`."""

    version: Version | None = None
    """Version of the data set (default: detected; v1.1 if both exist)."""
    protocol: Protocol = "hloc"
    """hloc: database pairs by covisibility, query pairs by retrieval, PnP; challenge: the local feature challenge, with
    the pairs that it gives, and registration by COLMAP."""
    orientation: OrientationMode = "auto"
    """Rotation of photographs for their features; cameras and keypoints stay in the pixels as stored. exif: by EXIF
    alone; auto: also turned where others show that a photograph lies on its side; none: as stored."""
    neighbors: Annotated[int, AtLeast(1), Unit("N")] = 50
    """Most similar database images for a query."""
    retrieval: RetrievalName = DEFAULT_RETRIEVAL
    """Global descriptor."""
    pairs: Annotated[Path | None, Unit("FILE")] = None
    """Pairs 'query database-image', one per line, as published by hloc, instead of retrieval."""
    ground_truth: Annotated[Path | None, Unit("FILE")] = None
    """Poses of queries ('name qw qx qy qz tx ty tz' a line, or a COLMAP model); recall is printed."""
    thresholds: Annotated[tuple[Threshold, ...], Reads(read_thresholds), Unit("'D,A D,A ...'")] = THRESHOLDS
    """Distances and degrees of the recall (default: 0.25,2 0.5,5 5,10, the benchmark's)."""
    repeat: Annotated[int, AtLeast(1), Unit("N")] = 1
    """Run the random part with N seeds; recall is printed with its standard deviation."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of all random choices."""
    threads: Annotated[int, Unit("N")] = -1
    """Threads of COLMAP; 1 makes runs exactly reproducible (default: all cores)."""


def read_size(text: str) -> tuple[int, int]:
    """Width and height, ``480x360``."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a size like 480x360") from error
    return width, height


@dataclass(frozen=True)
class MiniatureOptions:
    """Raises ConfigurationError for values that cannot be."""

    database: Annotated[int, Flag(("--images",)), Unit("N")] = 24
    """Rendered database images, with known poses."""
    queries: Annotated[int, Unit("N")] = 8
    """Rendered queries of the day, and as many of the night, from other places."""
    size: Annotated[tuple[int, int], Reads(read_size), Unit("WxH")] = (480, 360)
    """Of rendered images (default: 480x360); every third is upright."""
    points: int = 4000
    """Of the reference model, before those that fewer than two images see are left out."""
    seed: int = 0
    """Of everything random."""
    layout: Layout = "hloc"
    """hloc: as unpacked; posfeat: as in PoSFeat's repository."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.database < 2 or self.queries < 1 or self.points < 10 or min(self.size) < 64:
            raise ConfigurationError(
                "the miniature needs at least 2 database images, 1 query, 10 points and 64 pixels per side"
            )
