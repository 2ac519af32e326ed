"""Photographs with known cameras, from whatever file, as a COLMAP model without points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError, Option
from posfeat_hloc.images.decoding import list_images, read_size
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras

Array = NDArray[np.float64]

_ORTHOGONAL = 1e-2  # of R R^T from the identity; files with few digits stay below


@dataclass(frozen=True)
class PosedView:
    """One photograph as a file of poses has it.

    Attributes:
        name: as in the file; often another path than in the folder of the photographs.
        pose: world to camera, x right, y down, z forward.
        kind: COLMAP camera model; empty where the intrinsics are unknown, and EXIF or a guess must do.
        params: of that model; those of the principal point may be NaN for the middle of the photograph.
        size: (width, height) that the intrinsics are of; None for the size of the photograph.
    """

    name: str
    pose: pycolmap.Rigid3d
    kind: str = ""
    params: tuple[float, ...] = ()
    size: tuple[int, int] | None = None


def pose_from_camera_to_world(matrix: Array, where: str) -> pycolmap.Rigid3d:
    """COLMAP's pose from a camera-to-world matrix in OpenGL's axes (x right, y up, z backwards), as ARKit's and NeRF's.

    Args:
        matrix: ``(3, 4)`` or ``(4, 4)``.
        where: file and place, for errors.

    Raises:
        MappingError: not a rotation and a translation.
    """
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise MappingError(f"{where}: not a 3x4 or 4x4 matrix of finite numbers")
    axes = matrix[:3, :3] * [1, -1, -1]
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation_near(axes, where)), matrix[:3, 3]).inverse()


def rotation_near(matrix: Array, where: str) -> Array:
    """The rotation ``(3, 3)`` nearest to a matrix that nearly is one; raises MappingError for any other."""
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ORTHOGONAL or np.linalg.det(matrix) < 0:
        raise MappingError(f"{where}: not a rotation; its axes must be of length 1, at right angles and right-handed")
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)


def model_of_views(views: Sequence[PosedView], images: Path, source: Path) -> pycolmap.Reconstruction:
    """A model without points; photographs that the folder does not hold are left out.

    Views with the same intrinsics share a camera.

    Args:
        views: of a file.
        images: folder of the photographs.
        source: the file, for errors.

    Raises:
        MappingError: the folder holds none of the photographs, or one of another size than its intrinsics are of.
        ImageError: a photograph cannot be read.
    """
    names = find_names([view.name for view in views], images)
    if not names:
        raise MappingError(
            f"{images}: holds none of the {len(views)} photographs of {source}, such as {views[0].name!r}; name their "
            "folder by ",
            Option("images"),
        )
    found = {names[view.name]: view for view in views if view.name in names}
    model, shared = pycolmap.Reconstruction(), dict[tuple[object, ...], int]()
    for name, camera in _cameras(found, images, source):
        key = (camera.model_name, camera.width, camera.height, tuple(camera.params))
        if key not in shared:
            shared[key] = camera.camera_id = len(shared) + 1
            model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=name, camera_id=shared[key], image_id=len(model.images) + 1)
        model.add_image_with_trivial_frame(image, found[name].pose)
    return model


def _cameras(found: dict[str, PosedView], images: Path, source: Path) -> list[tuple[str, pycolmap.Camera]]:
    """The camera of each photograph, in the order of their names."""
    sizes = {name: read_size(images / name) for name in found}
    guessed = assign_cameras(images, {n: sizes[n] for n in found if not found[n].kind}, CameraOptions())
    cameras = {name: camera for camera, names in guessed for name in names}
    for name, view in found.items():
        if not view.kind:
            continue
        width, height = sizes[name]
        if view.size not in (None, (width, height)):
            raise MappingError(
                f"{images / name}: has {width}x{height} pixels, but {source} has intrinsics for "
                f"{view.size[0]}x{view.size[1]}; take the photographs that the poses are of"  # type: ignore[index]
            )
        camera = pycolmap.Camera.create_from_model_name(1, view.kind, 1.0, width, height)
        params = np.array(view.params, np.float64)
        if len(params) != len(camera.params):
            raise MappingError(f"{source}: {view.kind} has {len(camera.params)} parameters, not {len(params)}")
        middle = np.isnan(params)
        params[middle] = np.asarray(camera.params)[middle]
        if not np.isfinite(params).all() or any(params[i] <= 0 for i in camera.focal_length_idxs()):
            raise MappingError(f"{source}: the intrinsics of {view.name!r} are not finite numbers, or not positive")
        camera.params = params
        cameras[name] = camera
    return sorted(cameras.items())


def find_names(names: Iterable[str], images: Path) -> dict[str, str]:
    """Name in a foreign file -> name of the same photograph in a folder, for those that are there.

    A name is taken as it is, or for the photograph whose path has the longest end in common with it: at least the name
    of the file, whose ending may be missing or another one. Of several such photographs none is taken.

    Raises:
        ConfigurationError: no such folder, or no images in it.
    """
    here = list_images(images)
    known, by_stem = set(here), dict[str, list[str]]()
    for name in here:
        by_stem.setdefault(PurePosixPath(name).stem, []).append(name)
    result = {}
    for name in names:
        plain = name.replace("\\", "/").removeprefix("./")
        if plain in known:
            result[name] = plain
            continue
        stems = {PurePosixPath(plain).stem, PurePosixPath(plain).name}
        candidates = [other for stem in sorted(stems) for other in by_stem.get(stem, [])]
        scores = {other: _common_end(plain, other) for other in candidates}
        best = [other for other, score in scores.items() if score == max(scores.values())]
        if len(best) == 1:
            result[name] = best[0]
    return result


def _common_end(name: str, other: str) -> tuple[int, bool]:
    """How many folders both paths end with, and whether the file names are equal with their endings."""
    parts, others = PurePosixPath(name).parts, PurePosixPath(other).parts
    count = 0
    while count < min(len(parts), len(others)) - 1 and parts[-2 - count] == others[-2 - count]:
        count += 1
    return count, parts[-1] == others[-1]
