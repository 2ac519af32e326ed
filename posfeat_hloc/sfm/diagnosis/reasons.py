"""Why an image stays out of a model, and what counts as too little, too far or too much."""

from __future__ import annotations

from dataclasses import dataclass

from posfeat_hloc.errors import Option

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
        cause: one of :data:`posfeat_hloc.sfm.diagnosis.remedies.CAUSES`.
        evidence: the numbers that speak for it.
        remedies: options that follow from these numbers.
    """

    cause: str
    evidence: str
    remedies: tuple[Option, ...] = ()

    def __str__(self) -> str:
        return f"{self.cause}: {self.evidence}"
