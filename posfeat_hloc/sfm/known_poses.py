"""Models with known poses, from the files of COLMAP or those that :mod:`posfeat_hloc.sfm.pose_files` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from posfeat_hloc.errors import MappingError, Option
from posfeat_hloc.images.decoding import list_images, read_size
from posfeat_hloc.sfm.cameras import CameraOptions, assign_cameras
from posfeat_hloc.sfm.models import find_model, read_model, registered_names
from posfeat_hloc.sfm.pose_files import (
    PosedView,
    read_bundler,
    read_camera_folder,
    read_nvm,
    read_pose_list,
    read_transforms,
)

FORMS = (
    "a COLMAP model or a folder with one in sparse/0",
    "Bundler's bundle.out beside its list of images",
    "an NVM file",
    "transforms.json",
    "a folder of Polycam's JSON cameras",
    "a text file of poses",
)
"""What :func:`read_known_poses` reads."""


def read_known_poses(path: Path, images: Path) -> pycolmap.Reconstruction:
    """Read cameras and poses; 3D points are kept where the file is a COLMAP model, and dropped otherwise.

    Args:
        path: see :data:`FORMS`.
        images: folder of the photographs. Names in the file may be other paths of them; but those
            of a COLMAP model are taken as they are.

    Raises:
        MappingError: not a file of any of these kinds, a damaged one, or photographs that are not there.
        ConfigurationError: no such folder of photographs.
        ImageError: a photograph cannot be read.
    """
    if path.is_dir():
        folder = find_model(path)
        if folder is not None:
            model = read_model(folder)
            names = registered_names(model)
            if not any((images / name).is_file() for name in names):
                raise MappingError(
                    f"{images}: holds none of the {len(names)} photographs of {folder}"
                    f"{f', such as {names[0]!r}' if names else ''}; name their folder by ",
                    Option("images"),
                )
            return model
        if (path / "transforms.json").is_file():
            return read_known_poses(path / "transforms.json", images)
        return model_of_views(read_camera_folder(path), images, path)
    if not path.is_file():
        raise MappingError(f"{path}: no such file or folder; ", Option("model"), f" takes {'; '.join(FORMS)}")
    return model_of_views(_read_file(path, images), images, path)


def _read_file(path: Path, images: Path) -> list[PosedView]:
    if path.suffix.lower() == ".json":
        return read_transforms(path)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"NVM_V3"):
        return read_nvm(path)
    if path.suffix.lower() == ".out" or start.startswith(b"# Bundle file"):
        return read_bundler(path)
    return read_pose_list(path, images)


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
