"""Posed pairs from a COLMAP model: covisible photographs, undistorted, scaled and cropped to the training size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, ImageError, MappingError
from posfeat_hloc.geometry.rotations import relative_pose
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.resampling import Photograph, fit_calibration, fit_image
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.training.posed_pairs import MAX_ROTATION, SIZE, Array, PosedPair, check_limits, told, usable
from posfeat_hloc.training.views import inside


@dataclass(frozen=True)
class ColmapPairOptions:
    """Which pairs of a model are used. Raises ConfigurationError for values that cannot be."""

    size: tuple[int, int] = SIZE
    """(width, height) of the images in pixels."""
    max_rotation: float = MAX_ROTATION
    """Between the two cameras, in degrees."""
    min_covisible: int = 30
    """Pairs with fewer common 3D points are left out; points outside the training crops do not count."""
    overlap: tuple[float, float] = (0.0, 1.0)
    """Bounds of the number of common points as a part of those of the image with fewer points."""
    min_baseline: float = 0.01
    """Pairs with a shorter baseline are left out, as a part of the median depth of the nearer image's points."""
    max_error: float = 2.0
    """3D points with a larger mean reprojection error are not counted, in pixels."""
    cache: int = 256
    """Images kept in memory, 0.9 MB each at 640 x 480."""

    def __post_init__(self) -> None:
        check_limits(self.size, self.max_rotation)
        if not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise ConfigurationError("the bounds of the overlap must lie between 0 and 1, the smaller one first")


class ColmapPairSource:
    """Pairs of images of one reconstruction.

    Args:
        model: folder with a COLMAP model (text or binary).
        images: folder with its images, the ones it was made of (COLMAP's pixels are those that the files store).
        options: selection of pairs.
        keep: which names of the model's images to use (for a held-out split); all when None.

    Attributes:
        pairs: ``(N, 2)`` indices into ``names``.
        names: of the images with a pose and points.
        calibrations: ``(M, 3, 3)``, of the images as they are given out.
        R, t: ``(M, 3, 3)`` and ``(M, 3)``, world to camera.

    Raises:
        MappingError: the folder holds no model, one of its cameras is no pinhole after undistortion, or no pair is
            left to train on.
        ImageError: an image is missing; later, it cannot be read or is not of the camera's size.
    """

    def __init__(
        self, model: Path, images: Path, options: ColmapPairOptions, keep: Callable[[str], bool] | None = None
    ) -> None:
        self.model, self.folder, self.options = model, images, options
        reconstruction = read_model(model)
        posed = sorted(
            (image for image in reconstruction.images.values() if image.has_pose), key=lambda image: image.name
        )
        posed = [image for image in posed if keep is None or keep(image.name)]
        self.names = [image.name for image in posed]
        self.cameras = [reconstruction.cameras[image.camera_id] for image in posed]
        targets = {c.camera_id: _training_calibration(model, c, options.size) for c in self.cameras}
        self.calibrations = np.array([targets[camera.camera_id] for camera in self.cameras]).reshape(-1, 3, 3)
        matrices = np.array([image.cam_from_world().matrix() for image in posed]).reshape(-1, 3, 4)
        self.R, self.t = matrices[..., :3], matrices[..., 3]
        self._select(reconstruction, [image.image_id for image in posed])
        for name in (self.names[i] for i in np.unique(self.pairs).tolist()):
            if not (images / name).is_file():
                raise ImageError(f"{images / name}: no such file; the model {model} was made of it")
        self._open_caches()

    def _open_caches(self) -> None:
        self._image = lru_cache(self.options.cache)(self._read)
        self._maps = lru_cache(8)(self._undistortion)

    def __getstate__(self) -> dict[str, Any]:
        """Without the caches: each process that prepares batches has its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_image", "_maps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open_caches()

    def _select(self, reconstruction: pycolmap.Reconstruction, ids: list[int]) -> None:
        """Find the pairs to train on; counts why others are left out."""
        options = self.options
        points, depths = self._visible_points(reconstruction, ids)
        candidates = []
        for first, second, common in _count_common(points):
            part = common / min(len(points[first]), len(points[second]))
            if common >= options.min_covisible and options.overlap[0] <= part <= options.overlap[1]:
                candidates.append((first, second))
        pairs = np.array(candidates, dtype=np.int64).reshape(-1, 2)
        i, j = pairs.T
        R, t = relative_pose(self.R[i], self.t[i], self.R[j], self.t[j])
        shortest = options.min_baseline * np.minimum(depths[i], depths[j])
        good, self.left_out = usable(R, t, options.max_rotation, shortest)
        self.pairs = pairs[good]
        if not len(self.pairs):
            raise MappingError(
                f"{self.model}: no pair to train on: {len(pairs)} pairs of {len(ids)} images share "
                f"{options.min_covisible} 3D points ({told(self.left_out)}); use a larger reconstruction or wider "
                "limits"
            )

    def _visible_points(
        self, reconstruction: pycolmap.Reconstruction, ids: list[int]
    ) -> tuple[list[NDArray[np.int64]], Array]:
        """For each image the sorted numbers of the 3D points within its training crop, and their median depth."""
        index = {image_id: i for i, image_id in enumerate(ids)}
        seen: list[list[int]] = [[] for _ in ids]
        positions: list[Array] = []
        for point in reconstruction.points3D.values():
            if point.error > self.options.max_error:
                continue
            for image_id in {element.image_id for element in point.track.elements} & index.keys():
                seen[index[image_id]].append(len(positions))
            positions.append(point.xyz)
        xyz = np.array(positions).reshape(-1, 3)
        kept, depths = [], np.full(len(ids), np.inf)
        for i, members in enumerate(seen):
            numbers = np.array(members, dtype=np.int64)
            camera = xyz[numbers] @ self.R[i].T + self.t[i]
            front = camera[:, 2] > 0
            numbers, camera = numbers[front], camera[front]
            pixels = camera @ self.calibrations[i].T
            within = inside(pixels[:, :2] / pixels[:, 2:], *self.options.size)
            kept.append(numbers[within])
            if within.any():
                depths[i] = np.median(camera[within, 2])
        return kept, depths

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def description(self) -> str:
        """One line for the log."""
        left_out = f" (left out: {reasons})" if (reasons := told(self.left_out)) else ""
        return f"{self.model}: {len(self)} pairs of {len(np.unique(self.pairs))} images{left_out}"

    def sample(self, rng: np.random.Generator) -> PosedPair:
        """Draw one of the pairs with equal probability."""
        i, j = self.pairs[rng.integers(len(self.pairs))].tolist()
        R, t = relative_pose(self.R[i], self.t[i], self.R[j], self.t[j])
        return PosedPair(self._image(i), self._image(j), self.calibrations[i], self.calibrations[j], R, t)

    def _read(self, i: int) -> Photograph:
        """Decode, undistort, scale and crop one image."""
        path, camera = self.folder / self.names[i], self.cameras[i]
        pixels = read_image(path, upright=False).pixels
        height, width = pixels.shape[:2]
        if (width, height) != (camera.width, camera.height):
            raise ImageError(
                f"{path}: is {width}x{height} pixels, but its camera in {self.model} has "
                f"{camera.width}x{camera.height}; use the images that the model was made of"
            )
        if camera.is_undistorted():
            fitted = fit_image(pixels, self.options.size)
        else:
            size, map_x, map_y = self._maps(camera.camera_id)
            if size != (width, height):  # shrunk first, so that the map does not alias
                pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
            fitted = np.asarray(cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR), np.uint8)
        fitted.flags.writeable = False  # the cache gives out this very array
        return fitted

    def _undistortion(self, camera_id: int) -> tuple[tuple[int, int], NDArray[np.float32], NDArray[np.float32]]:
        """Size to shrink the images of a camera to, and where each training pixel lies in the shrunk image."""
        i = next(i for i, camera in enumerate(self.cameras) if camera.camera_id == camera_id)
        camera, K, (width, height) = self.cameras[i], self.calibrations[i], self.options.size
        scale = min(1.0, K[0, 0] / camera.mean_focal_length())
        size = max(1, round(camera.width * scale)), max(1, round(camera.height * scale))
        x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        rays = np.c_[x.ravel(), y.ravel(), np.ones(x.size)] @ np.linalg.inv(K).T
        # COLMAP counts from the border of the image, so its coordinates scale without an offset
        source = np.asarray(camera.img_from_cam(rays)) * np.divide(size, (camera.width, camera.height)) - 0.5
        maps = source.astype(np.float32).reshape(height, width, 2)
        return size, np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])


def _training_calibration(model: Path, camera: pycolmap.Camera, size: tuple[int, int]) -> Array:
    """Intrinsics of the undistorted images of a camera at the training size, ``(0, 0)`` a pixel centre."""
    try:
        target = camera
        if not camera.is_undistorted():
            target = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
        K = np.array(target.calibration_matrix(), np.float64)
    except (ValueError, RuntimeError) as error:
        raise MappingError(
            f"{model}: camera {camera.camera_id} ({camera.model_name}) cannot be undistorted to a pinhole camera"
        ) from error
    K[:2, 2] -= 0.5
    return fit_calibration(K, (target.width, target.height), size)


def _count_common(points: list[NDArray[np.int64]]) -> list[tuple[int, int, int]]:
    """Pairs of images ``i < j`` with common points, and how many; each image brings sorted, unique point numbers."""
    images = np.repeat(np.arange(len(points)), [len(p) for p in points])
    numbers = np.concatenate([*points, np.zeros(0, np.int64)])
    order = np.argsort(numbers, kind="stable")
    by_point = images[order]
    starts = np.searchsorted(numbers[order], np.arange(numbers.max(initial=-1) + 2))
    result = []
    for i, mine in enumerate(points):
        lengths = starts[mine + 1] - starts[mine]
        offsets = np.repeat(starts[mine] - np.r_[0, np.cumsum(lengths)[:-1]][: len(mine)], lengths)
        others = by_point[offsets + np.arange(lengths.sum())]
        counts = np.bincount(others[others > i], minlength=len(points))
        result += [(i, int(j), int(counts[j])) for j in np.flatnonzero(counts)]
    return result
