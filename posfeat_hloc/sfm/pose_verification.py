"""Verify matches by camera poses that are known: a match is true when both points lie near their epipolar lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pycolmap
from numpy.typing import NDArray
from tqdm import tqdm

from posfeat_hloc.sfm.pairs import Pair
from posfeat_hloc.stores import FeatureStore

_IMAGES_IN_MEMORY = 1000  # 20 000 keypoints each are 320 MB


def verify_with_poses(
    database: pycolmap.Database,
    model: pycolmap.Reconstruction,
    features: FeatureStore,
    pairs: Sequence[Pair],
    max_error: float = 4.0,
    progress: bool = True,
) -> None:
    """Write the model's two-view geometry, with the matches it explains, for each pair that has matches in a database.

    The geometry is marked as calibrated: COLMAP 4 ignores inlier matches of a geometry without a configuration.

    Args:
        database: open for writing, with the image ids of the model, keypoints and matches.
        model: with known poses and cameras.
        features: where the standard deviations of the keypoints are.
        pairs: image names.
        max_error: largest distance to the epipolar line in either image, in standard deviations of a keypoint; in
            pixels where the feature file holds none (as in hloc).
        progress: show a bar.
    """
    images = {image.name: image for image in model.images.values()}

    @lru_cache(maxsize=_IMAGES_IN_MEMORY)
    def normalized(name: str) -> tuple[NDArray[np.float64], float]:
        """Undistorted keypoints on the plane at unit distance, and the threshold there."""
        image = images[name]
        camera = model.cameras[image.camera_id]
        noise = features.uncertainty(name) or 1.0
        pixels = np.asarray(database.read_keypoints(image.image_id), np.float64)[:, :2]
        return np.asarray(camera.cam_from_img(pixels)), camera.cam_from_img_threshold(max_error * noise)

    for name0, name1 in tqdm(pairs, desc="verify", unit="pair", disable=not progress):
        image0, image1 = images[name0], images[name1]
        if not database.exists_matches(image0.image_id, image1.image_id):
            continue
        matches = np.asarray(database.read_matches(image0.image_id, image1.image_id))
        points0, threshold0 = normalized(name0)
        points1, threshold1 = normalized(name1)
        relative = image1.cam_from_world() * image0.cam_from_world().inverse()
        essential = essential_matrix(relative)
        error0, error1 = epipolar_errors(essential, points0[matches[:, 0]], points1[matches[:, 1]])
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        geometry.E = essential
        geometry.cam2_from_cam1 = relative
        geometry.inlier_matches = matches[(error0 <= threshold0) & (error1 <= threshold1)]
        database.write_two_view_geometry(image0.image_id, image1.image_id, geometry)


def essential_matrix(cam1_from_cam0: pycolmap.Rigid3d) -> NDArray[np.float64]:
    """E = [t]x R with t of unit length, so that ``x1^T E x0 = 0``; zeros where the cameras are at the same place."""
    translation = np.asarray(cam1_from_cam0.translation)
    x, y, z = translation / max(float(np.linalg.norm(translation)), np.finfo(np.float64).tiny)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(cross @ cam1_from_cam0.rotation.matrix(), np.float64)


def epipolar_errors(
    essential: NDArray[np.float64], points0: NDArray[np.float64], points1: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of matched points to their epipolar lines.

    Args:
        essential: ``(3, 3)``, or a fundamental matrix.
        points0, points1: ``(M, 2)`` on the planes at unit distance, or pixels.

    Returns:
        ``(M,)`` distances in image 0 and in image 1, in the units of the points; NaN where a point has no line: at the
        epipole, between cameras at the same place, or where a distorted point cannot be undistorted.
    """
    homogeneous0 = np.pad(points0, ((0, 0), (0, 1)), constant_values=1)
    homogeneous1 = np.pad(points1, ((0, 0), (0, 1)), constant_values=1)
    lines1 = homogeneous0 @ essential.T
    lines0 = homogeneous1 @ essential
    residuals = np.abs((homogeneous1 * lines1).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return residuals / np.linalg.norm(lines0[:, :2], axis=1), residuals / np.linalg.norm(lines1[:, :2], axis=1)
