"""What every source of posed pairs yields, and the two-view geometry the sources share.

A pair is two photographs of one fixed size with known cameras; a network learns from it through the epipolar geometry
alone (PoSFeat section 3). Pixel ``(0, 0)`` is the centre of the top-left pixel in all coordinates and intrinsics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.geometry.rotations import rotation_angle
from posfeat_hloc.images.resampling import Photograph
from posfeat_hloc.training.views import Source, inside

Array = NDArray[np.float64]

SIZE = (640, 480)
"""Width and height of the images PoSFeat is trained on, in pixels."""

MAX_ROTATION = 80.0
"""Pairs whose cameras are turned farther from each other are left out, in degrees (PoSFeat's setting)."""


@dataclass(frozen=True)
class PosedPair:
    """Two images of one scene and their cameras: ``x1 = R x0 + t`` in camera coordinates, pixel ``~ K x``.

    Attributes:
        image0, image1: ``(H, W, 3)`` RGB uint8 of the training size; not to be written to.
        K0, K1: ``(3, 3)`` float64 intrinsics of these very images, in pixels.
        R, t: ``(3, 3)`` and ``(3,)`` float64, from camera 0 to camera 1; t in the unit of the scene, not zero.
        depth0, depth1: ``(H, W)`` float32 depth along the optical axis at every pixel centre, in the unit of t and 0
            where there is none; None for sources that do not know it.
    """

    image0: Photograph
    image1: Photograph
    K0: Array
    K1: Array
    R: Array
    t: Array
    depth0: NDArray[np.float32] | None = None
    depth1: NDArray[np.float32] | None = None

    def swapped(self) -> PosedPair:
        """The same pair with image 1 first."""
        return PosedPair(
            self.image1, self.image0, self.K1, self.K0, self.R.T, -self.R.T @ self.t, self.depth1, self.depth0
        )

    def transfer(self, points0: NDArray[np.floating]) -> tuple[Array, NDArray[np.bool_]]:
        """True correspondences of ``(N, 2)`` pixels of image 0, see :func:`transfer`.

        Raises:
            ConfigurationError: the source of this pair does not know the depth.
        """
        if self.depth0 is None or self.depth1 is None:
            raise ConfigurationError("true correspondences need depth; only synthetic pairs have it")
        return transfer(points0, self.depth0, self.depth1, self.K0, self.K1, self.R, self.t)


class PairSource(Source[PosedPair], Protocol):
    """Posed pairs of one data set; a draw depends on nothing but the generator it is given."""

    def __len__(self) -> int:
        """How many pairs (of synthetic scenes: photographs) there are to draw from."""

    @property
    def description(self) -> str:
        """One line for the log: what is drawn from, and how much was left out and why."""


def usable(
    R: Array, t: Array, max_rotation: float, min_baseline: float | Array
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which relative poses ``(N, 3, 3)``, ``(N, 3)`` can be trained on, and how many cannot and why.

    Args:
        max_rotation: in degrees.
        min_baseline: the baseline must be longer, in the unit of t; one number or ``(N,)``.
    """
    still = np.linalg.norm(t, axis=-1) <= min_baseline
    turned = ~still & (rotation_angle(R) > max_rotation)
    reasons = {"without baseline": int(still.sum()), f"turned more than {max_rotation:g} degrees": int(turned.sum())}
    return ~(still | turned), reasons


def told(left_out: Mapping[str, int]) -> str:
    """Why how many pairs are left out, as messages say it."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)


def transfer(
    points0: NDArray[np.floating],
    depth0: NDArray[np.float32],
    depth1: NDArray[np.float32],
    K0: Array,
    K1: Array,
    R: Array,
    t: Array,
    tolerance: float = 0.01,
) -> tuple[Array, NDArray[np.bool_]]:
    """Positions of points of image 0 in image 1, and which of them are visible.

    Args:
        points0: ``(N, 2)`` pixels of image 0.
        depth0, depth1: ``(H, W)``, 0 where unknown.
        K0, K1, R, t: the cameras, as in :class:`PosedPair`.
        tolerance: a point is seen when the depth found in image 1 agrees up to this part of it; points on a jump of
            the depth by more than this part count as unseen, for their depth is not known.

    Returns:
        ``(N, 2)`` pixels of image 1, NaN without depth, and ``(N,)`` whether they are in image 1 and not occluded.
    """
    points0 = np.asarray(points0, np.float64)
    depth, sure = _read_depth(depth0, points0, tolerance)
    rays = np.c_[points0, np.ones(len(points0))] @ np.linalg.inv(K0).T
    x1 = (rays * depth[:, None]) @ R.T + t
    with np.errstate(divide="ignore", invalid="ignore"):
        points1 = (x1 @ K1.T)[:, :2] / x1[:, 2:]
    seen, surface = _read_depth(depth1, points1, tolerance)
    with np.errstate(invalid="ignore"):
        agree = np.abs(seen - x1[:, 2]) <= tolerance * x1[:, 2]
    return points1, sure & surface & agree & (x1[:, 2] > 0)


def _read_depth(
    depth: NDArray[np.float32], points: NDArray[np.floating], tolerance: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Depth at ``(N, 2)`` points (NaN outside) and whether the four pixels around each lie on one surface."""
    height, width = depth.shape
    within = inside(points, width, height)
    xy = np.where(within[:, None], points, 0.0)
    column, row = np.minimum(np.floor(xy), [width - 2, height - 2]).astype(int).T
    fx, fy = (xy - np.c_[column, row]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        # the inverse depth of a plane is linear in the pixel, so bilinear reading is exact there
        corners = 1 / np.stack([depth[row + i, column + j] for i in (0, 1) for j in (0, 1)]).astype(np.float64)
        weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
        inverse = (corners * weights).sum(axis=0)
        smooth = within & np.isfinite(inverse) & (np.ptp(corners, axis=0) <= tolerance * inverse)
        return np.where(within & np.isfinite(inverse), 1 / inverse, np.nan), smooth


def check_limits(size: tuple[int, int], max_rotation: float) -> None:
    """Raise ConfigurationError for a training size or a rotation limit that cannot be."""
    if min(size) < 32:
        raise ConfigurationError(f"training size {size[0]}x{size[1]}: both sides need at least 32 pixels")
    if not 0 < max_rotation <= 180:
        raise ConfigurationError(f"rotation limit {max_rotation:g}: must be above 0 and at most 180 degrees")
