"""Options of maps at known poses and of maps that grow. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc.runtime.options import AtLeast, Unit, check_options
from posfeat_hloc.sfm.options import DEFAULT_RETRIEVAL, ComputeOptions, FeatureOptions, MatcherName, RetrievalName

Refinement = Literal["poses", "all"]


@dataclass(frozen=True, kw_only=True)
class TriangulateOptions(ComputeOptions, FeatureOptions):
    """How a map is made at known poses."""

    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png is black."""
    pairs: Annotated[Path | None, Unit("FILE")] = None
    """Two image names per line (default: by common 3D points of the model, and by poses)."""
    neighbors: Annotated[int, AtLeast(1), Unit("N")] = 20
    """For each image, so many others by common points and as many by poses; all where there are no more images."""
    max_angle: Annotated[float, Unit("DEGREES")] = 60.0
    """Between the directions in which two images look that are paired by poses."""
    refine: Refinement | None = None
    """Move poses to where the new points agree best; all: intrinsics, too (default: they stay).

    Then points are triangulated again. The model as a whole stays where it was.
    """

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RegisterOptions(ComputeOptions):
    """How photographs are added to a map."""

    images: Annotated[Path | None, Unit("DIR")] = None
    """Photographs of the map and new ones; those that the map lacks are registered (default: its own folder, to which
    you have added some)."""
    matcher: MatcherName = None
    """Which descriptors match (default: the one that suits the feature)."""
    neighbors: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Match each new photograph with the N most similar ones only (default: with all)."""
    retrieval: RetrievalName = DEFAULT_RETRIEVAL
    """What similarity is."""
    move: bool = False
    """Adjust old poses and intrinsics, too; the model as a whole stays where it was (default: they stay to the last
    digit)."""
    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png is black."""

    def __post_init__(self) -> None:
        check_options(self)
