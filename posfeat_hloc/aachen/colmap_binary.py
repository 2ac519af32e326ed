"""COLMAP's binary model files, written point by point: a model of millions of points never is in memory.

Files in the form before rigs and frames, which every version of COLMAP reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm import integrity

_IMAGE = struct.Struct("<I7dI")  # id, rotation (w, x, y, z), translation, camera
_POINT = struct.Struct("<Q3d3BdQ")  # id, place, color, error, length of the track
_POINT2D = np.dtype([("xy", "<f8", 2), ("point3D", "<i8")])


@dataclass(frozen=True)
class PosedImage:
    """An image of a model.

    Attributes:
        image_id, camera_id: from 1.
        name: relative to the image folder.
        rotation: world to camera as a quaternion (w, x, y, z).
        translation: ``(3,)``; ``x = R X + t``.
    """

    image_id: int
    camera_id: int
    name: str
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]


def write_cameras(path: Path, cameras: Sequence[pycolmap.Camera]) -> None:
    """Write ``cameras.bin``; ids are 1, 2, ... in the order given."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(cameras)))
        for number, camera in enumerate(cameras, start=1):
            file.write(struct.pack("<IiQQ", number, int(camera.model.value), camera.width, camera.height))
            file.write(np.asarray(camera.params, "<f8").tobytes())


def write_images(
    path: Path, images: Iterable[tuple[PosedImage, NDArray[np.float64], NDArray[np.int64]]], count: int
) -> None:
    """Write ``images.bin`` from images with their 2D points.

    Args:
        path: of the file.
        images: each with ``(N, 2)`` places in COLMAP's pixels and ``(N,)`` ids of their 3D points.
        count: number of images.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<Q", count))
        for image, places, points in images:
            file.write(_IMAGE.pack(image.image_id, *image.rotation, *image.translation, image.camera_id))
            file.write(image.name.encode() + b"\0")
            file.write(struct.pack("<Q", len(places)))
            records = np.empty(len(places), _POINT2D)
            records["xy"], records["point3D"] = places, points
            file.write(records.tobytes())


def write_point(
    file: BinaryIO, point_id: int, place: Sequence[float], color: Sequence[int], track: Sequence[int]
) -> None:
    """Append a 3D point to ``points3D.bin``, which begins with their number as a 64-bit integer.

    Args:
        file: open for writing.
        point_id: from 1.
        place: (x, y, z).
        color: (red, green, blue).
        track: image id, index of the 2D point, and so on for each observation.
    """
    file.write(_POINT.pack(point_id, *place, *color, -1.0, len(track) // 2))  # COLMAP's mark of an unknown error
    file.write(struct.pack(f"<{len(track)}I", *track))


def image_names(model: Path) -> list[str]:
    """Names of the images of a model, without reading its points.

    Raises:
        MappingError: there is no ``images.bin`` or ``images.txt``, or it is damaged.
    """
    binary, text = model / "images.bin", model / "images.txt"
    try:
        if binary.exists():
            return integrity.image_names(binary)
        lines = [line for line in text.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return [line.split(maxsplit=9)[9] for line in lines[::2] if line.strip()]
    except OSError as error:
        raise MappingError(f"{model}: holds no images.bin or images.txt of a COLMAP model") from error
    except (IndexError, ValueError) as error:
        raise MappingError(f"{model}: the list of images is damaged ({error}); get the model again") from error
