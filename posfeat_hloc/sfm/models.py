"""COLMAP models: reading, writing, statistics, colors and images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ImageError, MappingError
from posfeat_hloc.geometry.two_view import epipolar_errors, essential_matrix
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.formats import colmap_reads
from posfeat_hloc.images.high_bit_depth import is_deep, ranges_of
from posfeat_hloc.runtime.output import writing_remedy
from posfeat_hloc.sfm.integrity import check_lengths


@dataclass(frozen=True)
class ModelSummary:
    """Statistics of one model.

    Attributes:
        path: folder of the model.
        registered: number of images with a pose.
        points: number of 3D points.
        observations: of 3D points in images.
        track_length: mean number of observations of a 3D point, as COLMAP counts it.
        images_per_point: mean number of different images that see a 3D point; smaller, because neighbouring keypoints
            of one image may belong to the same point.
        reprojection_error: mean over the observations, in pixels.
    """

    path: str
    registered: int
    points: int
    observations: int
    track_length: float
    images_per_point: float
    reprojection_error: float


def write_ranked(models: Iterable[pycolmap.Reconstruction], partial: Path, output: Path) -> list[ModelSummary]:
    """Write models to ``partial/0``, ``partial/1``, ..., most images first, and rename that folder to ``output``."""
    ranked = sorted(models, key=lambda m: (m.num_reg_images(), m.num_points3D()), reverse=True)
    summaries = []
    for number, model in enumerate(ranked):
        folder = partial / str(number)
        folder.mkdir()
        write_model(model, folder)
        summaries.append(summarize(model, output / str(number)))
    partial.rename(output)
    return summaries


def summarize(model: pycolmap.Reconstruction, path: Path) -> ModelSummary:
    """Count what a model holds."""
    return ModelSummary(
        path=str(path),
        registered=model.num_reg_images(),
        points=model.num_points3D(),
        observations=model.compute_num_observations(),
        track_length=model.compute_mean_track_length(),
        images_per_point=_images_per_point(model),
        reprojection_error=model.compute_mean_reprojection_error(),
    )


def _images_per_point(model: pycolmap.Reconstruction) -> float:
    counts = [len({element.image_id for element in point.track.elements}) for point in model.points3D.values()]
    return sum(counts) / len(counts) if counts else 0.0


def read_model(path: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text; raises MappingError when the folder holds none."""
    try:
        if (path / "images.bin").exists():
            check_lengths(path)
        model = pycolmap.Reconstruction(path)
        if not (path / "images.bin").exists():
            for image_id, name in _names_in_text(path / "images.txt").items():
                model.images[image_id].name = name
        for image in model.images.values():
            _ = image.name  # which is decoded only now
        return model
    except (ValueError, RuntimeError, IndexError, KeyError, OSError, MemoryError) as error:
        raise MappingError(f"{path}: no COLMAP model can be read from this folder ({error})") from error


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a binary model into a folder; MappingError where it is cut, which COLMAP does not notice."""
    try:
        model.write(folder)
        check_lengths(folder)
    except (ValueError, RuntimeError) as error:
        raise MappingError(f"{folder}: cannot be written ({error}); {writing_remedy(folder, error)}") from error


def find_model(folder: Path) -> Path | None:
    """The COLMAP model in an output folder of a reconstruction, or the folder itself; None where there is none."""
    candidates = (folder / "sparse" / "0", folder / "sparse", folder)
    return next((c for c in candidates if any((c / f"images.{kind}").is_file() for kind in ("bin", "txt"))), None)


def _names_in_text(path: Path) -> dict[int, str]:
    """Image id -> name with its spaces; COLMAP ends names at the first one while it reads text."""
    names = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                image_id, *_, name = line.rstrip("\r\n").split(" ", 9)
                names[int(image_id)] = name.strip()
                next(lines, None)  # its 2D points
    return names


def model_folders(sparse: Path) -> list[Path]:
    """Folders of models, in their order."""
    return sorted((path for path in sparse.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def summaries(sparse: Path) -> list[ModelSummary]:
    """Of models that were made before."""
    return [summarize(read_model(folder), folder) for folder in model_folders(sparse)]


def color_points(model: pycolmap.Reconstruction, images: Path, colored: bool = False) -> None:
    """Give each point the mean color of the places where it is seen.

    COLMAP does it, unless it cannot decode some of the images (WebP, HEIC, AVIF) or scales their values otherwise (more
    than 8 bits): then our own reader does.

    Args:
        model: is changed.
        images: folder of its images; those that cannot be read do not count.
        colored: COLMAP has done it already.
    """
    files = [path for name in registered_names(model) if (path := images / name).is_file()]
    if not all(colmap_reads(path) and not is_deep(path) for path in files):
        _color_by_our_reader(model, images)
    elif files and not colored:
        model.extract_colors_for_all_images(images)


def _color_by_our_reader(model: pycolmap.Reconstruction, images: Path) -> None:
    sums = {point_id: np.zeros(4) for point_id in model.points3D}
    posed = posed_images(model)
    ranges = ranges_of(images, posed)
    for name, image in posed.items():
        try:
            pixels = read_image(images / name, upright=False, values=ranges.get(name)).pixels
        except ImageError:
            continue
        seen = [(point.xy, point.point3D_id) for point in image.points2D if point.has_point3D()]
        if not seen:
            continue
        places = np.array([xy for xy, _ in seen], np.float32) - np.float32(0.5)
        colors = cv2.remap(pixels, places[:, :1], places[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for (_, point_id), color in zip(seen, colors[:, 0], strict=True):
            sums[point_id] += [*color, 1]
    for point_id, (*color, count) in sums.items():
        if count:
            model.points3D[point_id].color = np.round(np.array(color) / count).astype(np.uint8)


def registered_names(model: pycolmap.Reconstruction) -> list[str]:
    """Names of the images with a pose, sorted."""
    return list(posed_images(model))


def posed_images(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Image]:
    """Image name -> image of those with a pose, in the order of their names."""
    posed = (image for image in model.images.values() if image.has_pose)
    return {image.name: image for image in sorted(posed, key=lambda image: image.name)}


def essential_between(image0: pycolmap.Image, image1: pycolmap.Image) -> tuple[pycolmap.Rigid3d, NDArray[np.float64]]:
    """From camera 0 to camera 1 of posed images, and the essential matrix ``(3, 3)``."""
    relative = image1.cam_from_world() * image0.cam_from_world().inverse()
    return relative, essential_matrix(relative.rotation.matrix(), relative.translation)


def landmarks(model: pycolmap.Reconstruction, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """All keypoints of an image, and which of them see a 3D point (PoSFeat figure 1).

    Returns:
        ``(N, 2)`` (x, y), ``(0, 0)`` is the centre of the top-left pixel, and ``(N,)``.

    Raises:
        MappingError: the image has no pose in the model.
    """
    points = _image(model, name).points2D
    keypoints = np.array([point.xy for point in points], np.float64).reshape(-1, 2) - 0.5
    return keypoints, np.array([point.has_point3D() for point in points], bool)


def epipolar_distances(
    model: pycolmap.Reconstruction,
    name0: str,
    name1: str,
    points0: NDArray[np.floating],
    points1: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Distances of matches to their epipolar lines by the model's poses and cameras, the larger one of both images.

    Args:
        name0, name1: images of the model.
        points0, points1: ``(M, 2)`` pixels, ``(0, 0)`` is the centre of the top-left one.

    Returns:
        ``(M,)`` pixels (at unit magnification of the lens); NaN where a point has no line.

    Raises:
        MappingError: one of the images has no pose in the model.
    """
    image0, image1 = _image(model, name0), _image(model, name1)
    cameras = [model.cameras[image.camera_id] for image in (image0, image1)]
    planes = [
        np.asarray(camera.cam_from_img(np.asarray(points, np.float64) + 0.5)).reshape(-1, 2)
        for camera, points in zip(cameras, (points0, points1), strict=True)
    ]
    error0, error1 = epipolar_errors(essential_between(image0, image1)[1], *planes)
    return np.asarray(np.maximum(error0 * cameras[0].mean_focal_length(), error1 * cameras[1].mean_focal_length()))


def _image(model: pycolmap.Reconstruction, name: str) -> pycolmap.Image:
    posed = posed_images(model)
    if name not in posed:
        known = list(posed)
        more = ", ..." if len(known) > 3 else ""
        raise MappingError(f"{name!r} has no pose in the model; {len(known)} images have: {', '.join(known[:3])}{more}")
    return posed[name]
