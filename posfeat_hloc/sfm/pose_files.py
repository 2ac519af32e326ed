"""Cameras from ``transforms.json``, from Polycam's folders, and from lists of poses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.text_files import numbered_lines

_NAN = math.nan


def read_transforms(path: Path) -> list[PosedView]:
    """Cameras of nerfstudio's and instant-ngp's ``transforms.json``; poses stay in the frame of the file.

    Raises:
        MappingError: not such a file, or a camera that is no perspective or fisheye one; the message names the frame.
    """
    values = _read_json(path)
    frames = values.get("frames") if isinstance(values, dict) else None
    if not isinstance(frames, list) or not frames:
        raise MappingError(f"{path}: has no 'frames'; it must be a transforms.json as nerfstudio's")
    views = []
    for number, frame in enumerate(frames):
        where = f"{path}, frame {number}"
        try:
            name = str(frame["file_path"])
            pose = pose_from_camera_to_world(np.array(frame["transform_matrix"], np.float64), where)
            views.append(PosedView(name, pose, *_intrinsics({**values, **frame}, where)))
        except (KeyError, TypeError, ValueError) as error:
            raise MappingError(f"{where}: has no usable file_path, transform_matrix or intrinsics ({error})") from error
    return views


def _intrinsics(values: dict[str, Any], where: str) -> tuple[str, tuple[float, ...], tuple[int, int] | None]:
    """COLMAP camera model, its parameters, and the size they are of."""
    size = (int(values["w"]), int(values["h"])) if "w" in values and "h" in values else None
    model = str(values.get("camera_model", "OPENCV"))
    if "fl_x" in values:
        focal = float(values["fl_x"])
    elif "camera_angle_x" in values and size is not None:
        focal = size[0] / 2 / math.tan(float(values["camera_angle_x"]) / 2)
    else:
        return "", (), size
    centre = (float(values.get("cx", _NAN)), float(values.get("cy", _NAN)))
    base = (focal, float(values.get("fl_y", focal)), *centre)
    k1, k2, k3, k4, p1, p2 = (float(values.get(name, 0)) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model == "OPENCV_FISHEYE":
        return model, (*base, k1, k2, k3, k4), size
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL") or k4:
        raise MappingError(
            f"{where}: camera model {model} (k4 = {k4:g}) is none of COLMAP's; undistort the images first"
        )
    if k3:
        return "FULL_OPENCV", (*base, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0), size
    return ("OPENCV", (*base, k1, k2, p1, p2), size) if any((k1, k2, p1, p2)) else ("PINHOLE", base, size)


def read_camera_folder(folder: Path) -> list[PosedView]:
    """Cameras of a folder with a JSON file for each photograph, as Polycam exports ARKit's poses.

    Each holds ``t_00`` to ``t_23``, the rows of camera to world in ARKit's axes (x right, y up, z backwards), and
    ``fx``, ``fy``, ``cx``, ``cy``, ``width``, ``height``. The photograph has the name of the file.

    Raises:
        MappingError: no such files, or one that lacks numbers.
    """
    views = []
    for path in sorted(folder.glob("*.json")):
        values = _read_json(path)
        try:
            matrix = np.array([[float(values[f"t_{row}{column}"]) for column in range(4)] for row in range(3)])
            params = tuple(float(values[name]) for name in ("fx", "fy", "cx", "cy"))
            size = (int(values["width"]), int(values["height"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MappingError(
                f"{path}: lacks one of t_00 to t_23, fx, fy, cx, cy, width and height ({error})"
            ) from error
        views.append(PosedView(path.stem, pose_from_camera_to_world(matrix, str(path)), "PINHOLE", params, size))
    if not views:
        raise MappingError(f"{folder}: holds neither a COLMAP model nor JSON files of cameras")
    return views


def read_pose_list(path: Path, images: Path) -> list[PosedView]:
    """Cameras of a text file, one a line; names may hold spaces. A line that begins with ``#`` is a comment, unless it
    has the form of a camera and the folder of images holds one of this name.

    After the name there are 7 numbers, ``qw qx qy qz tx ty tz``, world to camera as COLMAP and our ``poses.txt`` have
    them; or 12 or 16, the rows of camera to world in ARKit's axes. Four more are ``fx fy cx cy`` in pixels; without
    them focal lengths come from EXIF, or are guessed.

    Raises:
        MappingError: no such file, or a line of another form; the message names it.
    """
    views = []
    for number, line in numbered_lines(path, "a list of poses", MappingError):
        try:
            view = _posed_line(line, f"{path}, line {number}")
        except MappingError:
            if line.startswith("#"):
                continue
            raise
        if not line.startswith("#") or (images / view.name).is_file():
            views.append(view)
    if not views:
        raise MappingError(f"{path}: holds no poses")
    return views


def _posed_line(line: str, where: str) -> PosedView:
    words = line.split()
    numbers: list[float] = []
    while len(words) > 1 and (value := _number(words[-1])) is not None:
        numbers.insert(0, value)
        words.pop()
    name = line.strip()
    for _ in numbers:
        name = name.rsplit(maxsplit=1)[0]
    kind, params = "", ()
    square = len(numbers) == 16 and numbers[12:] == [0, 0, 0, 1]
    if len(numbers) in (11, 20) or (len(numbers) == 16 and not square):
        kind, params, numbers = "PINHOLE", tuple(numbers[-4:]), numbers[:-4]  # type: ignore[assignment]
    if len(numbers) == 7 and (length := math.hypot(*numbers[:4])) > 0:
        w, x, y, z = (value / length for value in numbers[:4])
        return PosedView(name, pycolmap.Rigid3d(pycolmap.Rotation3d([x, y, z, w]), np.array(numbers[4:])), kind, params)
    if len(numbers) in (12, 16):
        return PosedView(name, pose_from_camera_to_world(np.array(numbers).reshape(-1, 4), where), kind, params)
    raise MappingError(
        f"{where}: has {len(numbers)} numbers after the name; write 'name qw qx qy qz tx ty tz' (world to camera), or "
        "the 12 or 16 of a camera-to-world matrix, and then 'fx fy cx cy' where they are known"
    )


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise MappingError(f"{path}: cannot be read as JSON ({error})") from error


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


_OPENGL = np.diag([1.0, -1.0, -1.0])


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
