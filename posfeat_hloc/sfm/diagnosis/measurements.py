"""Measurements of images and their geometry that explain missing images, and their thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import Option, PosfeatError
from posfeat_hloc.images.decoding import DecodedImage, read_image
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.sfm.acontrario import keeps_lines_straight

FEW_KEYPOINTS = 100
"""Verification wants 15 matches that agree and a pose 30; of 100 keypoints rarely that many are seen elsewhere."""
NO_PARALLAX = 0.026
"""Translation as a part of the distance below which rays meet at less than 1.5 degrees; COLMAP drops such points."""
REPEATED = 0.25
"""Part of the match chains that disagree. Measured with learned features: 0.01 to 0.03 on a fountain, 0.04 to 0.10 in a
street, 0.01 to 0.23 in 74 internet photographs of one building; with SIFT 0.00."""
OFF_FOCAL = 1.4
"""Factor between two focal lengths that counts as wrong; less is found by COLMAP's bundle adjustment."""
SURE_FOCAL = 0.05
"""Relative difference of an essential matrix's singular values that is noise; ten times less on exact matches."""
POSE_INLIERS = 30
"""Matches with 3D points that COLMAP wants for a pose (``abs_pose_min_num_inliers``)."""
FOCAL_SPREAD = 0.05
"""Focal lengths of one camera that were estimated image by image differ by less, as a part of their median. Measured:
0.004 on a door, 0.01 on a fountain; 0.06 on a flat facade, 0.7 and more where some of them are wrong."""
START_INLIERS = 100
"""Verified matches that COLMAP wants between the first two images (``init_min_num_inliers``)."""

STILL = 0.5
"""Median distance in pixels of matches in two images that count as one."""
OFF_SCALE = 2.0
"""Factor between the pixels of two images at which learned features lose most matches; measured with D2D: all of 15
pairs of a facade are verified at one size, 8 at a factor of four."""
SMALLEST = 200
"""Pixels of the longer side below which nothing is advised to be shrunk."""
ENOUGH_VIEWS = 6
"""Images with which somebody may have walked around something."""
ONE_SIDE = 60.0
"""Degrees between two views below which a merge of two equal facades is suspected: each is photographed from its front,
so the merged cameras spread no wider than those of one. Wider collections of one side are ordinary."""
MAX_KEYPOINTS = 8192
"""Of an image, if not told otherwise."""


@dataclass(frozen=True)
class Reason:
    """Why one image is not in the largest model.

    Attributes:
        cause: one of :data:`posfeat_hloc.sfm.diagnosis.diagnose.CAUSES`.
        evidence: the numbers that speak for it.
        remedies: options that follow from these numbers.
    """

    cause: str
    evidence: str
    remedies: tuple[Option, ...] = ()

    def __str__(self) -> str:
        return f"{self.cause}: {self.evidence}"


Array = NDArray[np.float64]
Indices = NDArray[np.int64]

FOCAL_RANGE = (0.5, 2.0)
"""Focal lengths, as a part of the longer side, of nearly all lenses: 104 to 28 degrees across that side."""
FOCAL_STEPS = 41


def rotation_deviation(homography: Array, camera0: pycolmap.Camera, camera1: pycolmap.Camera) -> float:
    """How far a homography between two images is from what turning the camera alone gives.

    ``K1^-1 H K0`` is a rotation, up to scale, when the camera stays in its place; with a translation t before a plane
    with normal n at distance d it is ``R + t n^T / d``. The ratio of its largest to its smallest singular value, less
    one, is then about the translation as a part of the distance. Where a focal length is only guessed (no prior), the
    one within ``FOCAL_RANGE`` that explains most counts for both images.

    Args:
        homography: ``(3, 3)`` from pixels of image 0 to those of image 1.
        camera0, camera1: of the images.

    Returns:
        0 for pure rotation, about ``|t| / d`` otherwise; infinite for a homography that is singular, and for cameras
        that do not keep lines straight.
    """
    if not (keeps_lines_straight(camera0) and keeps_lines_straight(camera1)):
        return np.inf
    known = camera0.has_prior_focal_length and camera1.has_prior_focal_length
    tries = [1.0] if known else focal_factors(camera0)
    return min(_anisotropy(np.linalg.inv(_K(camera1, f)) @ homography @ _K(camera0, f)) for f in tries)


def _anisotropy(matrix: Array) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] / values[2] - 1) if values[2] > 1e-12 * values[0] else np.inf


def focal_factors(camera: pycolmap.Camera) -> list[float]:
    """Factors that bring the focal length of a camera to each of those tried, in steps of 3.5 %."""
    side = max(camera.width, camera.height)
    return [float(f) * side / camera.mean_focal_length() for f in np.geomspace(*FOCAL_RANGE, FOCAL_STEPS)]


def focal_factor(
    fundamentals: Sequence[Array], camera0: pycolmap.Camera, camera1s: Sequence[pycolmap.Camera], known1: bool = False
) -> tuple[float, float, float]:
    """By what the focal length of image 0 must be multiplied so that its fundamental matrices become essential ones.

    An essential matrix has two equal singular values (Mendonça and Cipolla, 1999); for each pair the relative
    difference is taken for every focal length tried, and the one with the smallest median over the pairs wins.

    Args:
        fundamentals: ``(3, 3)`` each, from image 0 to its partners.
        camera0: of image 0.
        camera1s: of the partners.
        known1: the partners' focal lengths are right, and only that of image 0 is changed.

    Returns:
        the factor; the median difference there, and with the focal length as it is, from 0 (all pairs agree) to 1.
    """
    factors = [1.0, *focal_factors(camera0)]
    pairs = list(zip(fundamentals, camera1s, strict=True))
    costs = [[_inequality(_K(c, 1.0 if known1 else f).T @ F @ _K(camera0, f)) for F, c in pairs] for f in factors]
    medians = np.median(costs, axis=1)
    best = int(medians.argmin())
    return factors[best], float(medians[best]), float(medians[0])


def _inequality(essential: Array) -> float:
    first, second, _ = np.linalg.svd(essential, compute_uv=False)
    return float((first - second) / first) if first > 0 else 1.0


def chain_disagreement(
    matches01: Indices, matches12: Indices, matches02: Indices, positions2: Array, tolerance: float
) -> tuple[int, int]:
    """Whether matches from image 0 to image 2 agree with those by way of image 1.

    Right matches join images of one 3D point, so both ways end at the same place; where structure repeats, one way
    ends at another copy of it (loop constraints: Zach et al., CVPR 2010).

    Args:
        matches01, matches12, matches02: ``(K, 2)`` each, indices of keypoints.
        positions2: ``(N, 2)`` keypoints of image 2 in pixels.
        tolerance: distance in pixels at which two places are the same.

    Returns:
        keypoints of image 0 for which both ways exist, and for how many of them the ends differ.
    """
    size0 = 1 + max(matches01[:, 0].max(initial=-1), matches02[:, 0].max(initial=-1))
    size1 = 1 + max(matches01[:, 1].max(initial=-1), matches12[:, 0].max(initial=-1))
    to1, to2 = _lookup(matches01, size0), _lookup(matches02, size0)
    on = _lookup(matches12, size1)
    both = (to1 >= 0) & (to2 >= 0)
    both[both] = on[to1[both]] >= 0
    ends = positions2[on[to1[both]]] - positions2[to2[both]]
    return int(both.sum()), int((np.linalg.norm(ends, axis=1) > tolerance).sum())


def _lookup(matches: Indices, size: int) -> Indices:
    table = np.full(size, -1, np.int64)
    table[matches[:, 0]] = matches[:, 1]
    return table


def _K(camera: pycolmap.Camera, factor: float) -> Array:
    K = np.array(camera.calibration_matrix(), np.float64)
    K[0, 0] *= factor
    K[1, 1] *= factor
    return K


MASKED = 0.02
"""Part of the image that a mask leaves, below which the mask is why there are few keypoints."""

FLAT = 4.0
"""Grey levels of 255 by which nearly all pixels differ at most from their surroundings in an image that shows
nothing; sensor noise alone gives as much, photographs of bare walls 8 and more."""

_SURROUNDINGS = 31  # pixels
_SIZE = 800  # pixels of the longer side at which contrast is measured


@dataclass(frozen=True)
class Pictures:
    """Where the images of a reconstruction are.

    Attributes:
        images, masks: their folders; None where they are not known, or there are none.
    """

    images: Path | None = None
    masks: Path | None = None

    @classmethod
    def of(cls, command: Mapping[str, Any]) -> Pictures:
        """The folders that the recorded options name."""
        folders = [command.get("images"), command.get("masks")]
        return cls(*(None if folder is None else Path(folder) for folder in folders))

    def mask_share(self, name: str) -> tuple[Path, float] | None:
        """The mask of an image, and the share of the image that it allows; None without a mask."""
        image = self._read(name)
        if self.masks is None or image is None:
            return None
        masks = Masks(self.masks)
        path = masks.path(name)
        try:
            mask = masks.read(name, image)
        except PosfeatError:
            return None
        return None if path is None or mask is None else (path, float(mask.mean()))

    def contrast(self, name: str) -> float | None:
        """Difference of grey values, 0 to 255, to those around them: the 99th percentile."""
        image = self._read(name)
        if image is None:
            return None
        grey = resize(image.pixels, _SIZE).astype(np.float32)
        around = cv2.blur(grey, (_SURROUNDINGS, _SURROUNDINGS))
        return float(np.percentile(np.abs(grey - around), 99))

    def _read(self, name: str) -> DecodedImage | None:
        if self.images is None:
            return None
        try:
            return read_image(self.images / name, grayscale=True)
        except PosfeatError:
            return None
