"""Whether a pair of images with a relative rotation may both be upright.

Two people on opposite sides of a table see its top turned by 180 degrees, and neither camera is turned. A camera is
upright when the direction of gravity lies in the plane of its vertical axis and its line of sight. What two images
say about each other is therefore not the angle between them but the rotation between the cameras: where it takes an
upright camera to an upright one, nothing need be turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc import matchers
from posfeat_hloc.geometry.acontrario import log_nfa, random_inlier_ratio

Array = NDArray[np.float64]

PITCH = 60.0
"""Degrees above or below the horizon that a camera with an upright image looks at most; straight down, no image is
upright more than another."""

ROLL = 15.0
"""Degrees that a camera held upright is off."""

FOCAL_LENGTH = 1.2
"""Assumed, relative to the longer side of the image, as COLMAP does."""

_STEP = 2.5  # degrees between directions that are tried


def rotation_between(points0: Array, points1: Array, longest: tuple[float, float], max_error: float) -> Array | None:
    """Rotation from the first camera to the second, by the essential matrix or homography that most matches fit.

    Args:
        points0, points1: ``(M, 2)`` matched points in pixels from the centres of the pictures.
        longest: longer side of each image in pixels.
        max_error: of a match that fits, in pixels.

    Returns:
        ``(3, 3)``; None where no geometry fits.
    """
    cameras = [
        pycolmap.Camera(
            model="SIMPLE_PINHOLE", width=round(side), height=round(side), params=[FOCAL_LENGTH * side, 0, 0]
        )
        for side in longest
    ]
    options = pycolmap.TwoViewGeometryOptions(compute_relative_pose=True)
    options.ransac.max_error = max_error
    options.ransac.random_seed = 0
    matches = np.repeat(np.arange(len(points0), dtype=np.uint32)[:, None], 2, axis=1)
    found = pycolmap.estimate_calibrated_two_view_geometry(cameras[0], points0, cameras[1], points1, matches, options)
    return None if found.cam2_from_cam1 is None else np.asarray(found.cam2_from_cam1.rotation.matrix())


def both_upright(rotation: Array) -> bool:
    """Whether some direction of gravity is that of an upright camera for both cameras.

    Args:
        rotation: ``(3, 3)`` from the first camera to the second; x to the right, y down, z ahead in upright pictures.
    """
    gravity = _directions() @ rotation.T
    pitch = np.degrees(np.arcsin(np.clip(gravity[:, 2], -1, 1)))
    roll = np.degrees(np.arctan2(gravity[:, 0], gravity[:, 1]))
    return bool(np.any((np.abs(pitch) <= PITCH) & (np.abs(roll) <= ROLL)))


@lru_cache(maxsize=1)
def _directions() -> Array:
    """``(N, 3)`` unit vectors: gravity as upright cameras may have it."""
    pitch = np.radians(np.arange(-PITCH, PITCH + _STEP, _STEP))[:, None]
    roll = np.radians(np.arange(-ROLL, ROLL + _STEP, _STEP))[None]
    x, y, z = np.broadcast_arrays(np.cos(pitch) * np.sin(roll), np.cos(pitch) * np.cos(roll), np.sin(pitch))
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


EVIDENCE = 16.0
"""A vote counts above this: chance would give as much in one of nine million tests."""

MAX_ERROR = 2.0
"""Sampson error of a match that fits, in pixels of the small picture."""

AGREES = 25.0
"""Degrees that two images which agree may differ by."""

SHEAR = 1.8
"""Ratio of the longest to the shortest axis that a circle may become between an image and a turned one: more of it is
not believed; the same ground seen from its other side is foreshortened otherwise."""

OFF = 60.0
"""Degrees between the measured angle and the turn that a pair was looked at in, above which a vote is not believed."""

_MATCHER = matchers.create({"name": "nearest", "precision": "fp32"})
_LEAST = 12  # matches that a geometry is estimated from


@dataclass(frozen=True)
class SmallFeatures:
    """The strongest keypoints of an image of a few hundred pixels.

    Attributes:
        points: ``(N, 2)`` in pixels of the small image, which lies as its file's pixels do.
        descriptors: ``(N, D)``, L2-normalised, of the image as it was shown.
        size: width and height of the small image, as its file's pixels lie.
    """

    points: Array
    descriptors: NDArray[np.floating]
    size: tuple[float, float]

    @property
    def longest(self) -> float:
        """Longer side in pixels."""
        return max(self.size)

    def from_centre(self, points: Array) -> Array:
        """``(N, 2)`` points relative to the centre of the image."""
        return points - (np.asarray(self.size) - 1) / 2


@dataclass(frozen=True)
class Vote:
    """Evidence of one pair of images.

    Attributes:
        evidence: minus the logarithm of how many geometries as good random matches would have; above
            :data:`EVIDENCE`, the images show the same thing.
        angle: degrees clockwise by which the first image has to be turned to lie as the second one.
        scale: size of things in the second image, relative to the first.
        upright: whether the two cameras may both have been held upright, whatever the angle is.
    """

    evidence: float
    angle: float = 0.0
    scale: float = 1.0
    upright: bool = False

    def turn(self, upright: bool = True) -> float:
        """The angle; where people who hold cameras upright explain it, 0 if such people are expected."""
        return 0.0 if upright and self.upright else self.angle

    @property
    def counts(self) -> bool:
        """Whether chance is no explanation."""
        return self.evidence > EVIDENCE


NONE = Vote(-np.inf)


def vote(first: SmallFeatures, second: SmallFeatures, to_upright: tuple[Array, Array], shown: float = 0.0) -> Vote:
    """Match two small images and test the epipolar geometry that most matches fit.

    Args:
        first, second: features.
        to_upright: for each image ``(2, 2)``, vectors in the file's pixels to vectors in the image that angles
            refer to.
        shown: degrees clockwise by which the first image was turned for its descriptors, from that image.
    """
    matched = matchers.match_batch(_MATCHER, [(first.descriptors, second.descriptors)])[0].pairs()
    if len(matched) < _LEAST:
        return NONE
    points0, points1 = first.points[matched[:, 0]], second.points[matched[:, 1]]
    found = pycolmap.estimate_fundamental_matrix(points0, points1, _ransac())
    if found is None:
        return NONE
    share = random_inlier_ratio(points0, points1, np.asarray(found["F"]), MAX_ERROR)
    evidence = -log_nfa(len(matched), int(found["num_inliers"]), share)
    if evidence <= EVIDENCE:
        return Vote(evidence)
    fits = np.asarray(found["inlier_mask"], bool)
    upright0, upright1 = (
        features.from_centre(points[fits]) @ frame.T
        for features, points, frame in zip((first, second), (points0, points1), to_upright, strict=True)
    )
    angle, scale = similarity(upright0, upright1)
    if abs(wrapped(angle - shown)) > OFF:
        return NONE
    if abs(angle) > AGREES:
        rotation = rotation_between(upright0, upright1, (first.longest, second.longest), MAX_ERROR)
        if rotation is not None and both_upright(rotation):
            return Vote(evidence, angle, scale, upright=True)
        if shear(upright0, upright1) > SHEAR:
            return NONE
    return Vote(evidence, angle, scale)


def similarity(points0: Array, points1: Array) -> tuple[float, float]:
    """Rotation in degrees clockwise and scale between ``(M, 2)`` matched points, from directions and distances to
    their medians; all matches have equal weight, so outliers and near objects have little effect."""
    first, second = (_from_median(points) for points in (points0, points1))
    rotations = second * np.conj(first)
    lengths = np.abs(rotations)
    known = lengths > 0
    if not known.any():
        return 0.0, 1.0
    angle = float(np.degrees(np.angle(np.sum(rotations[known] / lengths[known]))))
    return angle, float(np.median(np.abs(second[known]) / np.abs(first[known])))


def shear(points0: Array, points1: Array) -> float:
    """Ratio of the axes that a circle gets by the affine map that fits ``(M, 2)`` matched points best; infinite for a
    map that mirrors."""
    centred0, centred1 = points0 - points0.mean(axis=0), points1 - points1.mean(axis=0)
    matrix = np.linalg.lstsq(centred0, centred1, rcond=None)[0]
    longest, shortest = np.linalg.svd(matrix, compute_uv=False)
    return float(longest / shortest) if np.linalg.det(matrix) > 0 else float("inf")


def wrapped(angle: float) -> float:
    """The same angle from -180 up to 180 degrees."""
    return (angle + 180) % 360 - 180


def _from_median(points: Array) -> NDArray[np.complex128]:
    centred = points - np.median(points, axis=0)
    return np.asarray(centred[:, 0] + 1j * centred[:, 1], np.complex128)


def _ransac() -> pycolmap.RANSACOptions:
    options = pycolmap.RANSACOptions()
    options.max_error = MAX_ERROR
    options.confidence = 0.99
    options.min_num_trials, options.max_num_trials = 100, 1000
    options.random_seed = 0
    return options
