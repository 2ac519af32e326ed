"""NVM files (VisualSFM's text models) to COLMAP models: the reference model of Aachen comes in this form.

After a header line, blank lines left out:

    number of images
    name  focal length  quaternion (w, x, y, z)  centre (x, y, z)  radial distortion  0
    number of points
    x y z  red green blue  number of observations  (image index, feature index, x, y) for each

The rotation leads from the world to the camera, the centre is in the world: t = -R C. Focal length and distortion are
not used: cameras come from a file of intrinsics in COLMAP's models, where distortion has another definition (and sign).
Places are in COLMAP's pixels; files with places relative to the principal point, as VisualSFM writes them, are found
out by their reprojection errors.
"""

from __future__ import annotations

import os
import shutil
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.aachen.colmap_files import PosedImage, write_cameras, write_images, write_point
from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.progress import Bar

_PROBE = 1000  # points that decide where places are counted from

Array = NDArray[np.float64]


@dataclass
class NvmPoint:
    """A 3D point of an NVM file.

    Plain lists: a large file has millions of short ones.

    Attributes:
        place: x, y, z.
        color: red, green, blue.
        images: index of each observation's image, in the order of the file.
        x, y: of each observation, as in the file.
    """

    place: list[float]
    color: list[int]
    images: list[int]
    x: list[float]
    y: list[float]


class NvmFile:
    """Reads an NVM file from its beginning to its end, one line in memory.

    Attributes:
        images: with poses; ids of images and cameras are 1, 2, ... in the order of the file.
        num_points: that follow.

    Raises:
        MappingError: not an NVM file, or damaged; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0
        self._lines = self._read_lines()
        header = next(self._lines, "")
        if not header.startswith("NVM_V3"):
            raise MappingError(f"{path}: not an NVM file, it begins with {header[:20]!r} instead of NVM_V3")
        self.images = [self._image(i + 1, self._line()) for i in range(self._count("images"))]
        if len({image.name for image in self.images}) != len(self.images):
            raise MappingError(f"{path}: names an image twice")
        self.num_points = self._count("points")

    def points(self) -> Iterator[NvmPoint]:
        """All points, in the order of the file; once only."""
        for _ in range(self.num_points):
            line = self._line()
            try:
                values = [float(word) for word in line.split()]
                images = [int(value) for value in values[7::4]]
                if len(values) != 7 + 4 * int(values[6]) or not all(0 <= i < len(self.images) for i in images):
                    raise ValueError
                color = [int(value) for value in values[3:6]]
                if not all(0 <= value <= 255 for value in color):
                    raise ValueError
            except (ValueError, IndexError, OverflowError) as error:
                raise self._error("not a 3D point with observations in images of the file") from error
            yield NvmPoint(values[:3], color, images, values[9::4], values[10::4])

    def _image(self, number: int, line: str) -> PosedImage:
        name, *numbers = line.rsplit(maxsplit=10)  # names may hold spaces
        try:
            quaternion, centre = np.array(numbers[1:5], np.float64), np.array(numbers[5:8], np.float64)
            length = np.linalg.norm(quaternion)
            if len(numbers) != 10 or not length > 0:
                raise ValueError
        except ValueError as error:
            raise self._error("not an image with ten numbers") from error
        quaternion /= length
        rotation = pycolmap.Rotation3d(quaternion[[1, 2, 3, 0]]).matrix()
        return PosedImage(number, number, clean_name(name), quaternion, -rotation @ centre)

    def _count(self, what: str) -> int:
        line = self._line()
        if not line.strip().isdigit():
            raise self._error(f"not the number of {what}")
        return int(line)

    def _line(self) -> str:
        line = next(self._lines, None)
        if line is None:
            raise MappingError(f"{self.path}: ends after line {self._number}, too early; get the file again")
        return line

    def _error(self, what: str) -> MappingError:
        return MappingError(f"{self.path}, line {self._number}: {what}; get the file again")

    def _read_lines(self) -> Iterator[str]:
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    self._number += 1
                    if line.strip():
                        yield line.strip("\r\n")
        except FileNotFoundError as error:
            raise MappingError(f"{self.path}: no such file") from error


def clean_name(name: str) -> str:
    """An image name as COLMAP has it: no leading ``./``, ``/`` between folders, spaces for VisualSFM's quotes."""
    return name.replace('"', " ").replace("\\", "/").removeprefix("./")


def convert_nvm(path: Path, cameras: Mapping[str, pycolmap.Camera], output: Path, progress: bool = True) -> None:
    """Convert an NVM file to a COLMAP model folder, which is replaced at the end.

    Each image gets a camera of its own. Its 2D points are its observations in the order of the file, not the features
    that the file counts: an NVM file holds only those of 3D points. Memory is 24 bytes an observation.

    Args:
        path: of the NVM file.
        cameras: image name -> camera, from the file of intrinsics.
        output: folder of the model: ``cameras.bin``, ``images.bin``, ``points3D.bin``.
        progress: show a bar.

    Raises:
        MappingError: a damaged file, or images without camera.
    """
    nvm = NvmFile(path)
    if missing := [image.name for image in nvm.images if image.name not in cameras]:
        raise MappingError(f"{path}: {len(missing)} images have no intrinsics, the first is {missing[0]!r}")
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    own = [cameras[image.name] for image in nvm.images]
    write_cameras(partial / "cameras.bin", own)
    places = [array("d") for _ in nvm.images]
    points = [array("q") for _ in nvm.images]
    with (partial / "points3D.bin").open("wb") as file:
        file.write(struct.pack("<Q", nvm.num_points))
        stream = nvm.points()
        probe = list(islice(stream, _PROBE))
        relative = _relative_to_principal_point(probe, nvm.images, own)
        shifts = [(c.principal_point_x, c.principal_point_y) if relative else (0.0, 0.0) for c in own]
        bar = Bar(chain(probe, stream), desc="convert", unit="point", total=nvm.num_points, disable=not progress)
        for number, point in enumerate(bar, start=1):
            track = []
            for i, x, y in zip(point.images, point.x, point.y, strict=True):
                track += [i + 1, len(points[i])]
                points[i].append(number)
                places[i].extend((x + shifts[i][0], y + shifts[i][1]))
            write_point(file, number, point.place, point.color, track)
    records = (
        (image, np.array(places[i]).reshape(-1, 2), np.array(points[i], np.int64)) for i, image in enumerate(nvm.images)
    )
    write_images(partial / "images.bin", records, len(nvm.images))
    shutil.rmtree(output, ignore_errors=True)
    os.replace(partial, output)


def write_nvm(path: Path, model: pycolmap.Reconstruction) -> None:
    """Write a model as an NVM file, as COLMAP's converter does: places in COLMAP's pixels, distortion -k."""
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.image_id)
    index = {image.image_id: i for i, image in enumerate(images)}
    with path.open("w", encoding="utf-8") as file:
        file.write(f"NVM_V3 \n\n{len(images)}\n")
        for image in images:
            camera = model.cameras[image.camera_id]
            radial = -camera.params[3] if camera.model_name == "SIMPLE_RADIAL" else 0.0
            x, y, z, w = image.cam_from_world().rotation.quat
            numbers = [camera.mean_focal_length(), w, x, y, z, *image.projection_center(), radial]
            file.write(f"{image.name} {' '.join(repr(float(v)) for v in numbers)} 0\n")
        file.write(f"\n{len(model.points3D)}\n")
        for _, point in sorted(model.points3D.items()):
            elements = [element for element in point.track.elements if element.image_id in index]
            parts = [*(repr(float(v)) for v in point.xyz), *(str(int(c)) for c in point.color), str(len(elements))]
            for element in elements:
                place = model.images[element.image_id].points2D[element.point2D_idx].xy
                parts += [str(index[element.image_id]), str(element.point2D_idx), *(repr(float(v)) for v in place)]
            file.write(" ".join(parts) + "\n")


def _relative_to_principal_point(
    points: Sequence[NvmPoint], images: Sequence[PosedImage], cameras: Sequence[pycolmap.Camera]
) -> bool:
    """Whether observations agree better with their points when the principal point is added to them."""
    as_they_are, moved = [], []
    for point in points:
        for i, x, y in zip(point.images, point.x, point.y, strict=True):
            rotation = pycolmap.Rotation3d(images[i].rotation[[1, 2, 3, 0]])
            projected = cameras[i].img_from_cam(rotation * np.array(point.place) + images[i].translation)
            if projected is not None:
                error = np.asarray(projected) - [x, y]
                as_they_are.append(np.linalg.norm(error))
                moved.append(np.linalg.norm(error - [cameras[i].principal_point_x, cameras[i].principal_point_y]))
    return bool(as_they_are) and float(np.median(moved)) < float(np.median(as_they_are))
