"""Verify matches by camera poses that are known: a match is true when both points lie near their epipolar lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix
from posfeat_hloc.runtime.progress import Bar
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair

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

    for name0, name1 in Bar(pairs, desc="verify", unit="pair", disable=not progress):
        image0, image1 = images[name0], images[name1]
        if not database.exists_matches(image0.image_id, image1.image_id):
            continue
        matches = np.asarray(database.read_matches(image0.image_id, image1.image_id))
        points0, threshold0 = normalized(name0)
        points1, threshold1 = normalized(name1)
        relative = image1.cam_from_world() * image0.cam_from_world().inverse()
        essential = essential_matrix(relative.rotation.matrix(), relative.translation)
        error0, error1 = epipolar_errors(essential, points0[matches[:, 0]], points1[matches[:, 1]])
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        geometry.E = essential
        geometry.cam2_from_cam1 = relative
        geometry.inlier_matches = matches[(error0 <= threshold0) & (error1 <= threshold1)]
        database.write_two_view_geometry(image0.image_id, image1.image_id, geometry)
