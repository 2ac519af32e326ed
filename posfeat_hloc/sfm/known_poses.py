"""Models with known poses, from the files of COLMAP, Bundler, VisualSFM, nerfstudio, Polycam, or a list of poses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.errors import MappingError, Option
from posfeat_hloc.sfm.pose_files import read_camera_folder, read_pose_list, read_transforms
from posfeat_hloc.sfm.posed_views import PosedView, model_of_views, rotation_near
from posfeat_hloc.sfm.reconstruction import find_model, read_model

FORMS = (
    "a COLMAP model or a folder with one in sparse/0",
    "Bundler's bundle.out beside its list of images",
    "an NVM file",
    "transforms.json",
    "a folder of Polycam's JSON cameras",
    "a text file of poses",
)
"""What :func:`read_known_poses` reads."""

_OPENGL = np.diag([1.0, -1.0, -1.0])


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
            names = [image.name for image in model.images.values() if image.has_pose]
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


def read_nvm(path: Path) -> list[PosedView]:
    """Cameras of an NVM file's first model, with VisualSFM's focal length and radial distortion.

    VisualSFM's coefficient undistorts: ``u = d (1 + r |d|^2)``; COLMAP's distorts, and is ``-r`` to first order, which
    is what COLMAP's own converter writes. Principal points are in the middle.

    Raises:
        MappingError: a damaged file; the message names the line.
    """
    lines = _lines(path)
    next(lines, None)
    number, count = next(lines, (0, ""))
    if not count.strip().isdigit():
        raise MappingError(f"{path}, line {number}: not the number of images; get the file again")
    views = []
    for _ in range(int(count)):
        number, line = next(lines, (0, ""))
        name, *words = line.rsplit(maxsplit=10)
        try:
            focal, *quaternion_and_centre, radial, _ = (float(word) for word in words)
            quaternion, centre = np.array(quaternion_and_centre[:4]), np.array(quaternion_and_centre[4:])
            if centre.shape != (3,) or not np.linalg.norm(quaternion) > 0:
                raise ValueError("other numbers")
        except ValueError as error:
            raise MappingError(f"{path}, line {number}: not an image with ten numbers; get the file again") from error
        w, x, y, z = quaternion / np.linalg.norm(quaternion)
        rotation = pycolmap.Rotation3d([x, y, z, w])
        pose = pycolmap.Rigid3d(rotation, -rotation.matrix() @ centre)
        views.append(PosedView(name.replace('"', " "), pose, "SIMPLE_RADIAL", (focal, np.nan, np.nan, -radial)))
    return views


def read_bundler(path: Path) -> list[PosedView]:
    """Cameras of a Bundler file; the names are those of the list of images beside it, line by line.

    The list is ``<file>.list.txt`` (COLMAP's), or ``list.txt``. Bundler's cameras look along -z with y up, and its two
    radial coefficients are COLMAP's. Cameras with focal length 0 have no pose.

    Raises:
        MappingError: a damaged file, or no list with as many names.
    """
    lines = [(number, line) for number, line in _lines(path) if not line.startswith("#")]
    try:
        count = int(lines[0][1].split()[0])
        rows = [[float(word) for word in line.split()] for _, line in lines[1 : 1 + 5 * count]]
        cameras = np.array(rows, np.float64).reshape(count, 5, 3)
    except (ValueError, IndexError) as error:
        raise MappingError(f"{path}: not a Bundler file, or one that ends too early ({error})") from error
    candidates = (path.with_name(f"{path.name}.list.txt"), path.with_name("list.txt"))
    listed = next((candidate for candidate in candidates if candidate.is_file()), None)
    if listed is None:
        raise MappingError(
            f"{path}: has no names of images; put its list beside it, as {candidates[0].name} or list.txt"
        )
    names = [_listed_name(line) for _, line in _lines(listed)]
    if len(names) != count:
        raise MappingError(f"{listed}: has {len(names)} names, but {path} has {count} cameras")
    views = []
    for i, (name, values) in enumerate(zip(names, cameras, strict=True)):
        (focal, k1, k2), rotation, translation = values[0], values[1:4], values[4]
        if focal > 0:
            turned = rotation_near(_OPENGL @ rotation, f"{path}, camera {i}")
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(turned), _OPENGL @ translation)
            views.append(PosedView(name, pose, "RADIAL", (focal, np.nan, np.nan, k1, k2)))
    if not views:
        raise MappingError(f"{path}: none of its {count} cameras has a pose")
    return views


def _listed_name(line: str) -> str:
    """The name in a line ``name``, or ``name 0 focal``."""
    words = line.rsplit(maxsplit=2)
    return words[0] if len(words) == 3 and words[1] == "0" else line.strip()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")
