"""A training set for descriptors in one file: photographs and which points of them correspond.

Photographs are stored encoded (WebP), at most ``max_size`` pixels long. A pair of photographs carries either points of
a structure-from-motion model seen in both, or the homography of a fixed camera. The file can be moved to another
machine without the photographs' folders.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.errors import DataError

Photograph = NDArray[np.uint8]
"""``(H, W, 3)`` RGB."""

QUALITY = 72
"""Of the WebP encoding."""

FORMAT = 1
"""Of the file; another one is refused."""


@dataclass(frozen=True)
class PackedPair:
    """Two photographs of one place.

    Attributes:
        image0, image1: indices of photographs.
        points: ``(N, 4)`` float32, x0, y0, x1, y1 in pixels of the stored photographs; empty with a homography.
        homography: ``(3, 3)`` pixels of image 0 to pixels of image 1, of a camera that does not move; else None.
        fundamental: ``(3, 3)`` with x1^T F x0 = 0 in pixels, of a model's poses; else None.
        calibrations: ``(2, 3, 3)`` of both cameras without their distortion, in pixels, of a model; else None.
    """

    image0: int
    image1: int
    points: NDArray[np.float32]
    homography: NDArray[np.float64] | None = None
    fundamental: NDArray[np.float64] | None = None
    calibrations: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Pack:
    """Photographs, the group that each belongs to (a scene, a place or a folder), and pairs of them.

    Attributes:
        images: ``(H, W, 3)`` uint8 RGB each.
        names, groups: one for each image.
        pairs: see :class:`PackedPair`.
    """

    images: list[Photograph]
    names: list[str]
    groups: list[str]
    pairs: list[PackedPair]


class PackWriter:
    """Writes a pack photograph by photograph; use it as a context manager.

    Args:
        path: of the file, replaced if there is one.
        max_size: longer photographs are made smaller, in pixels of the longer side.
    """

    def __init__(self, path: Path, max_size: int = 640) -> None:
        self.path = path
        self.max_size = max_size
        self._images: list[bytes] = []
        self._names: list[str] = []
        self._groups: list[str] = []
        self._pairs: list[PackedPair] = []

    def add_image(self, image: Photograph, name: str, group: str) -> tuple[int, tuple[float, float]]:
        """Add a photograph; returns its index and the factors by which its width and height changed."""
        picture = Image.fromarray(image)
        factor = min(1.0, self.max_size / max(picture.size))
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        scale = size[0] / picture.width, size[1] / picture.height
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        picture.save(encoded, "WEBP", quality=QUALITY, method=4)
        self._images.append(encoded.getvalue())
        self._names.append(name)
        self._groups.append(group)
        return len(self._images) - 1, scale

    def stored(self, index: int) -> Photograph:
        """A photograph as it is stored, ``(H, W, 3)``."""
        return np.asarray(Image.open(io.BytesIO(self._images[index])).convert("RGB"))

    def add_pair(self, pair: PackedPair) -> None:
        """Add a pair of photographs that were added before, in pixels of the stored ones."""
        self._pairs.append(pair)

    def close(self) -> None:
        """Write the file."""
        partial = self.path.with_name(self.path.name + ".partial")
        text = h5py.string_dtype()
        counts = [len(pair.points) for pair in self._pairs]
        points = np.concatenate([np.zeros((0, 4), np.float32), *(pair.points for pair in self._pairs)])
        with h5py.File(partial, "w") as file:
            file.attrs["format"] = FORMAT
            file["names"] = np.array(self._names, dtype=text)
            file["groups"] = np.array(self._groups, dtype=text)
            file["bytes"] = np.frombuffer(b"".join(self._images), np.uint8)
            file["lengths"] = np.array([len(image) for image in self._images], np.int64)
            file["pairs"] = np.array([(p.image0, p.image1) for p in self._pairs], np.int32).reshape(-1, 2)
            file["homographies"] = _matrices([pair.homography for pair in self._pairs])
            file["fundamentals"] = _matrices([pair.fundamental for pair in self._pairs])
            for side in (0, 1):
                own = [None if pair.calibrations is None else pair.calibrations[side] for pair in self._pairs]
                file[f"calibrations{side}"] = _matrices(own)
            file["counts"] = np.array(counts, np.int64)
            file.create_dataset("points", data=points, compression="gzip", shuffle=True)
        partial.replace(self.path)

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


def read_pack(path: Path) -> Pack:
    """Read a whole pack into memory.

    Raises:
        DataError: the file is missing or is no pack.
    """
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(
                    f"{path}: not a training pack of this version; make it again with posfeat-hloc pack-views"
                )
            names, groups = (list(file[key].asstr()[:]) for key in ("names", "groups"))
            ends = np.cumsum(file["lengths"][:])
            content = file["bytes"][:].tobytes()
            starts = np.r_[0, ends[:-1]] if len(ends) else ends
            images = [
                np.asarray(Image.open(io.BytesIO(content[a:b])).convert("RGB"))
                for a, b in zip(starts, ends, strict=True)
            ]
            points = np.split(file["points"][:], np.cumsum(file["counts"][:])[:-1])
            keys = ("homographies", "fundamentals", "calibrations0", "calibrations1")
            matrices = [[None if np.isnan(m).any() else m for m in file[key][:]] for key in keys]
            pairs = []
            for k, (i, j) in enumerate(file["pairs"][:]):
                homography, fundamental, first, second = (column[k] for column in matrices)
                calibrations = None if first is None or second is None else np.stack([first, second])
                pairs.append(PackedPair(int(i), int(j), points[k], homography, fundamental, calibrations))
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: no training pack ({error}); make one with posfeat-hloc pack-views") from error
    return Pack(images, names, groups, pairs)


def join(packs: list[Pack]) -> Pack:
    """Several packs as one."""
    images: list[Photograph] = []
    names: list[str] = []
    groups: list[str] = []
    pairs: list[PackedPair] = []
    for pack in packs:
        start = len(images)
        images += pack.images
        names += pack.names
        groups += pack.groups
        pairs += [replace(pair, image0=pair.image0 + start, image1=pair.image1 + start) for pair in pack.pairs]
    return Pack(images, names, groups, pairs)


def _matrices(matrices: list[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """``(N, 3, 3)``, NaN where there is none."""
    none = np.full((3, 3), np.nan)
    return np.array([none if m is None else m for m in matrices], np.float64).reshape(-1, 3, 3)
