"""What a model says of the keypoints and matches of its images; half a pixel is COLMAP's."""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix


def registered_names(model: pycolmap.Reconstruction) -> list[str]:
    """Names of the images with a pose, sorted."""
    return sorted(image.name for image in model.images.values() if image.has_pose)


def landmarks(model: pycolmap.Reconstruction, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """All keypoints of an image, and which of them see a 3D point (PoSFeat figure 1).

    Returns:
        ``(N, 2)`` (x, y), ``(0, 0)`` is the centre of the top-left pixel, and ``(N,)``.

    Raises:
        MappingError: the image has no pose in the model.
    """
    points = _image(model, name).points2D
    keypoints = np.array([point.xy for point in points], np.float64).reshape(-1, 2) - 0.5
    return keypoints, np.array([point.has_point3D() for point in points], bool)


def epipolar_distances(
    model: pycolmap.Reconstruction,
    name0: str,
    name1: str,
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Distances of matches to their epipolar lines by the model's poses and cameras, the larger one of both images.

    Args:
        name0, name1: images of the model.
        points0, points1: ``(M, 2)`` pixels, ``(0, 0)`` is the centre of the top-left one.

    Returns:
        ``(M,)`` pixels (at unit magnification of the lens); NaN where a point has no line.

    Raises:
        MappingError: one of the images has no pose in the model.
    """
    image0, image1 = _image(model, name0), _image(model, name1)
    cameras = [model.cameras[image.camera_id] for image in (image0, image1)]
    planes = [
        np.asarray(camera.cam_from_img(np.asarray(points, np.float64) + 0.5)).reshape(-1, 2)
        for camera, points in zip(cameras, (points0, points1), strict=True)
    ]
    relative = image1.cam_from_world() * image0.cam_from_world().inverse()
    essential = essential_matrix(relative.rotation.matrix(), relative.translation)
    error0, error1 = epipolar_errors(essential, *planes)
    return np.asarray(np.maximum(error0 * cameras[0].mean_focal_length(), error1 * cameras[1].mean_focal_length()))


def _image(model: pycolmap.Reconstruction, name: str) -> pycolmap.Image:
    image = next((i for i in model.images.values() if i.name == name and i.has_pose), None)
    if image is None:
        known = registered_names(model)
        more = ", ..." if len(known) > 3 else ""
        raise MappingError(f"{name!r} has no pose in the model; {len(known)} images have: {', '.join(known[:3])}{more}")
    return image
