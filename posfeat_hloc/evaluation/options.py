"""Options of the evaluations. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.options import AtLeast, Choices, Unit, check_options

MatcherName = Annotated[str | None, Choices.of(confs.matchers)]

ESTIMATORS = {
    "opencv-ransac": "OpenCV findEssentialMat, RANSAC (SuperGlue's)",
    "opencv-magsac": "OpenCV findEssentialMat, USAC_MAGSAC",
    "pycolmap": "COLMAP's LO-RANSAC with the tangent Sampson error",
    "poselib": "PoseLib's LO-RANSAC (LightGlue's and XFeat's)",
}
"""Name -> what it is; results of different estimators do not compare."""

RADII = (1, 3, 5, 7, 10)
"""Of S_RS in cells, of D2D's figure 7."""

LINE_POINTS, WINDOWS = (75, 100, 125), (0.075, 0.1, 0.125)
"""N_line and w_patch of PoSFeat's Table 4."""

Threshold = tuple[float, float]
"""Distance, in the unit of the map, and degrees."""

THRESHOLDS: tuple[Threshold, ...] = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""Of visuallocalization.net for Aachen, in metres, since v1.1; the papers have (0.5, 2), (1, 5), (5, 10)."""


def read_thresholds(text: str) -> tuple[Threshold, ...]:
    """Distances and degrees, ``0.25,2 0.5,5``."""
    try:
        pairs = [[float(value) for value in part.split(",")] for part in text.split()]
        if not pairs or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
            raise ValueError("not pairs of numbers")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a list like '0.25,2 0.5,5'") from error
    return tuple((distance, angle) for distance, angle in pairs)


@dataclass(frozen=True, kw_only=True)
class ComparedOptions:
    """Features to compare."""

    features: Annotated[tuple[str, ...], Unit("FEATURE")] = (confs.DEFAULT_FEATURE,)
    """NAME, as `posfeat-hloc list` shows it; NAME:OPTION=VALUE[:OPTION=VALUE...] with other options of the extractor or
    resize_max; FILE.h5 with features that are there already, ours or hloc's"""
    weights: Annotated[tuple[str, ...], Unit("FEATURE=FILE")] = ()
    """Other weights for a feature's network"""


@dataclass(frozen=True, kw_only=True)
class MatchingOptions:
    """Keypoints to match, and the device."""

    top_k: Annotated[int | None, AtLeast(1), Unit("K")] = None
    """Match the K keypoints with the highest scores (default: all)."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""


@dataclass(frozen=True, kw_only=True)
class TimedOptions(ComparedOptions):
    """Features to time, and the device."""

    device: str = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""


D2D_FEATURES = ("d2d-hardnet", "d2d-sosnet", "d2d-superpoint")
"""What D2D's ablations are about, as far as weights are at hand or can be fetched."""


@dataclass(frozen=True, kw_only=True)
class HPatchesOptions(MatchingOptions, ComparedOptions):
    """How matching accuracy is compared; see :func:`posfeat_hloc.evaluation.hpatches.evaluate_hpatches`."""

    matcher: Annotated[str, Choices.of(confs.matchers)] = "NN-mutual"
    """Matcher; NN-mutual is that of the protocol."""
    fixed_camera: bool = False
    """Each folder holds images of a camera that did not move, under changing light: image k, in the order of names, is
    matched with images k + 1, k + 7 and k + 13, and the true homography is the identity."""
    published: Annotated[tuple[str, ...] | None, Unit("METHOD")] = None
    """Published curves to show beside HPatches (default: all; give no name for none)."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RelativePoseOptions(MatchingOptions, ComparedOptions):
    """How poses of pairs are compared; see :func:`posfeat_hloc.evaluation.relative_pose.evaluate_relative_pose`."""

    matcher: MatcherName = None
    """Matcher (default: that of each feature)."""
    estimator: Annotated[str, Choices.of(ESTIMATORS)] = "opencv-ransac"
    """Estimator of the pose of a pair."""
    threshold: Annotated[float, Unit("PX")] = 1.0
    """Maximum error of an inlier, in pixels of the images as stored (SuperGlue: as resized)."""
    confidence: float = 0.99999
    """Confidence at which RANSAC stops."""
    seed: int = 0
    """Seed of the estimator."""

    def __post_init__(self) -> None:
        check_options(self)
        if not self.threshold > 0:
            raise ConfigurationError(Option("threshold", self.threshold), ": must be a positive number of pixels")


@dataclass(frozen=True, kw_only=True)
class EthOptions(ComparedOptions):
    """How reconstructions are compared; see :func:`posfeat_hloc.evaluation.eth.evaluate_eth`."""

    exhaustive_up_to: Annotated[int, AtLeast(1), Unit("N")] = 300
    """Sets of at most N images are matched exhaustively, larger ones by retrieval, where no pairs are chosen"""
    dense: bool = False
    """Also count dense points, where COLMAP's CUDA stereo is available"""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class MatchPictureOptions:
    """How matches of two images are drawn; see :func:`posfeat_hloc.evaluation.figures.draw_matches`."""

    homography: Annotated[Path | None, Unit("FILE")] = None
    """Homography from the first image to the second, nine numbers; errors are distances from it."""
    model: Annotated[Path | None, Unit("DIR")] = None
    """COLMAP model with both; errors are epipolar distances."""
    feature: str = confs.DEFAULT_FEATURE
    """As in hpatches, NAME or NAME:OPTION=VALUE."""
    weights: str | None = None
    """Other weights for its network."""
    matcher: MatcherName = None
    """Matcher (default: that of the feature)."""
    right: Annotated[float, Unit("PX")] = 10.0
    """Error drawn in full red."""
    only_right: bool = False
    """Draw only matches with smaller errors, as in the paper."""
    lines: bool = False
    """Draw lines between the images."""
    most: Annotated[int, AtLeast(1), Unit("N")] = 2000
    """Maximum number of drawn matches."""
    max_size: Annotated[int, AtLeast(1), Unit("PX")] = 800
    """Longest side of a panel."""
