"""Colors of 3D points from images that COLMAP cannot decode, such as WebP, HEIC and AVIF, or scales otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.formats import colmap_reads
from posfeat_hloc.images.high_bit_depth import is_deep, ranges_of


def readable_colors(path: Path) -> bool:
    """Whether COLMAP gives points of this image the colors that our reader sees; True where there is no file."""
    return not path.is_file() or (colmap_reads(path) and not is_deep(path))


def color_points(model: pycolmap.Reconstruction, images: Path) -> None:
    """Give each point the mean color of the places where it is seen, as COLMAP does, by our own reader.

    Args:
        model: is changed.
        images: folder of its images; those that cannot be read do not count.
    """
    sums = {point_id: np.zeros(4) for point_id in model.points3D}
    posed: Iterable[pycolmap.Image] = [image for image in model.images.values() if image.has_pose]
    ranges = ranges_of(images, sorted(image.name for image in posed))
    for image in posed:
        try:
            pixels = read_image(images / image.name, upright=False, values=ranges.get(image.name)).pixels
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
