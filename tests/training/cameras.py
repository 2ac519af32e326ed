"""Cameras, points and marked images for the tests of posed pairs."""

import cv2
import numpy as np

from posfeat_hloc.geometry.two_view import fundamental_matrix
from posfeat_hloc.training.posed_pairs import PosedPair


def turn(x: float, y: float, z: float) -> np.ndarray:
    """The rotation about the axis (x, y, z) by its length in degrees."""
    return cv2.Rodrigues(np.deg2rad([x, y, z]))[0]


def project(K: np.ndarray, R: np.ndarray, t: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels of ``(N, 3)`` points, one after the other."""
    pixels = []
    for point in points:
        x, y, z = K @ (R @ point + t)
        pixels.append([x / z, y / z])
    return np.array(pixels)


def epipolar_distances(pair: PosedPair, pixels0: np.ndarray, pixels1: np.ndarray) -> np.ndarray:
    """Distance of each pixel of image 1 to the epipolar line of its partner."""
    F = fundamental_matrix(pair.K0, pair.K1, pair.R, pair.t)
    distances = []
    for p, q in zip(pixels0, pixels1, strict=True):
        line = F @ [*p, 1]
        distances.append(abs(line @ [*q, 1]) / np.hypot(line[0], line[1]))
    return np.array(distances)


def marked(width: int, height: int, place: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    """An RGB image with one bright spot; (0, 0) is the centre of the top-left pixel."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    spot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(spot).astype(np.uint8)[..., None], 3, axis=2)


def spot(image: np.ndarray) -> np.ndarray:
    """Where the bright spot of an image is: the centroid."""
    weights = image[..., 0].astype(np.float64)
    x, y = np.meshgrid(np.arange(image.shape[1]), np.arange(image.shape[0]))
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()
