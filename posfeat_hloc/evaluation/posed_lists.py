"""Lists of image pairs with intrinsics and relative poses, as SuperGlue and LoFTR (MegaDepth-1500) write them."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, Option

FORMS = (
    "SuperGlue's text (name0 name1 rot0 rot1, 9 numbers of K0, 9 of K1, 16 of T_0to1 a line) or MegaDepth-1500's "
    "scene_info .npz (image_paths, intrinsics, poses, pair_infos)"
)


@dataclass(frozen=True)
class PosedImagePair:
    """Two images whose cameras are known.

    Attributes:
        name0, name1: relative to the image folder.
        intrinsics0, intrinsics1: 3x3, for pixels of the files as stored.
        rotation: 3x3, and
        translation: ``(3,)``, from camera 0 to camera 1; the length does not matter.
        turns: quarter turns that SuperGlue gives the two images before extraction; 0 for upright ones.
    """

    name0: str
    name1: str
    intrinsics0: NDArray[np.float64]
    intrinsics1: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    turns: tuple[int, int] = (0, 0)


def read_posed_pairs(path: Path) -> list[PosedImagePair]:
    """Read a list of either form.

    Raises:
        ConfigurationError: no such file, another form, or a pose that is none.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file; ", Option("pairs"), f" takes {FORMS}")
    pairs = _read_scene_info(path) if path.suffix == ".npz" else _read_text(path)
    if not pairs:
        raise ConfigurationError(f"{path}: holds no pairs; expected {FORMS}")
    return pairs


def _read_text(path: Path) -> list[PosedImagePair]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a list of pairs ({error}); expected {FORMS}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or (line.startswith("#") and len(fields) != 38):
            continue
        where = f"{path}, line {number}"
        try:
            turns, values = tuple(int(v) for v in fields[2:4]), np.array([float(v) for v in fields[4:]])
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}; expected {FORMS}") from error
        if len(fields) != 38:
            raise ConfigurationError(
                f"{where}: has {len(fields)} fields, not 38; expected {FORMS} (without intrinsics and poses there is "
                "nothing to compare with)"
            )
        pose = values[18:].reshape(4, 4)
        pairs.append(_pair(where, fields[0], fields[1], values[:9], values[9:18], pose, (turns[0], turns[1])))
    return pairs


def _read_scene_info(path: Path) -> list[PosedImagePair]:
    """Pairs of one MegaDepth scene; poses are world to camera."""
    arrays = _read_arrays(path)
    if missing := {"image_paths", "intrinsics", "poses", "pair_infos"} - arrays.keys():
        raise ConfigurationError(f"{path}: holds no {', no '.join(sorted(missing))}; expected {FORMS}")
    pairs = []
    for number, info in enumerate(arrays["pair_infos"]):
        where = f"{path}, pair {number}"
        try:
            first, second = info[0] if np.ndim(info[0]) else info[:2]  # ((i, j), overlap, ...) or (i, j)
            i, j = int(first), int(second)
            names = [str(arrays["image_paths"][k]) for k in (i, j)]
            intrinsics = [np.array(arrays["intrinsics"][k], np.float64) for k in (i, j)]
            poses = [np.array(arrays["poses"][k], np.float64) for k in (i, j)]
            relative = poses[1] @ np.linalg.inv(poses[0])
        except (TypeError, ValueError, IndexError, np.linalg.LinAlgError) as error:
            raise ConfigurationError(f"{where}: has no pose, intrinsics or image ({error})") from error
        pairs.append(_pair(where, names[0], names[1], intrinsics[0], intrinsics[1], relative, (0, 0)))
    return pairs


def _pair(
    where: str,
    name0: str,
    name1: str,
    intrinsics0: NDArray[np.float64],
    intrinsics1: NDArray[np.float64],
    pose: NDArray[np.float64],
    turns: tuple[int, int],
) -> PosedImagePair:
    if intrinsics0.size != 9 or intrinsics1.size != 9 or pose.shape != (4, 4):
        raise ConfigurationError(f"{where}: intrinsics are not 3x3 or the pose is not 4x4")
    rotation, translation = pose[:3, :3], pose[:3, 3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) or np.linalg.det(rotation) < 0:
        raise ConfigurationError(f"{where}: the pose's 3x3 part is not a rotation; expected {FORMS}")
    return PosedImagePair(
        name0, name1, intrinsics0.reshape(3, 3), intrinsics1.reshape(3, 3), rotation, translation, turns
    )


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled arrays of numbers, strings and tuples; anything that could run code is refused."""

    _ALLOWED = frozenset({"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self._ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core") if _NEW_NUMPY else module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")


_NEW_NUMPY = int(np.__version__.split(".")[0]) >= 2


def _read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz file; those of Python objects, as LoFTR's are, without numpy's ``allow_pickle``."""
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                stream = io.BytesIO(archive.read(member))
                version = np.lib.format.read_magic(stream)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                    version, np.lib.format.read_array_header_2_0
                )
                _, _, dtype = read_header(stream)
                if dtype.hasobject:
                    value = _ArraysOnly(stream).load()
                else:
                    stream.seek(0)
                    value = np.lib.format.read_array(stream, allow_pickle=False)
                arrays[member.removesuffix(".npy")] = value
    except Exception as error:  # a damaged archive, or a pickle in it, raises anything
        raise ConfigurationError(f"{path}: cannot be read as a scene_info file ({error}); expected {FORMS}") from error
    return arrays
