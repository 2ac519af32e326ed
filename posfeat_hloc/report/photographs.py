"""Photographs in the page: small JPEGs, undistorted where the camera is known, with keypoints, matches or scores."""

from __future__ import annotations

import colorsys
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray
from PIL import Image

from posfeat_hloc.detection.d2d import score_map
from posfeat_hloc.errors import ImageError
from posfeat_hloc.extractors import Extractor, d2d, posfeat, superpoint
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.images.formats import open_image
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.networks.inference import inference_precision
from posfeat_hloc.networks.tiled_inference import describe, score

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

MAX_PICTURES = 100
"""Maximum number of thumbnails on a page; larger collections are sampled evenly."""
DOTS = 500
"""Maximum number of keypoints drawn on a photograph."""

USED, UNUSED = (45, 212, 191), (251, 146, 60)
"""Colors of keypoints that are part of a 3D point, and of others."""


@dataclass(frozen=True)
class Thumbnail:
    """A small photograph in the orientation as stored.

    Attributes:
        pixels: ``(h, w, 3)`` uint8.
        scale: ``(2,)``, small pixels for a pixel of the photograph, along x and y.
    """

    pixels: Pixels
    scale: Array

    def places(self, keypoints: Array) -> Array:
        """``(N, 2)`` pixels of the photograph, (0, 0) the centre of the first, as pixels of the thumbnail."""
        return np.asarray((keypoints + 0.5) * self.scale - 0.5, np.float64)


def thumbnail(path: Path, side: int) -> Thumbnail:
    """Read a photograph so small that its longer side has ``side`` pixels; raises ImageError."""
    try:
        with open_image(path) as file:
            width, height = file.size
            if file.format == "JPEG" and file.mode in ("RGB", "L"):  # decoded at a fraction of its size: fast
                file.draft(None, (2 * side, 2 * side))
                pixels = np.asarray(file.convert("RGB"), np.uint8)
            else:
                pixels = read_image(path, upright=False).pixels
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise ImageError(f"{path}: cannot be decoded ({error})") from error
    small = resize(pixels, side)
    return Thumbnail(small, np.array([small.shape[1] / width, small.shape[0] / height]))


def undistorted(small: Thumbnail, keypoints: Array, camera: pycolmap.Camera) -> tuple[Thumbnail, Array]:
    """A thumbnail without lens distortion, and the keypoints ``(N, 2)`` of the photograph for its ``places``.

    A panorama remains unchanged, because no pinhole camera shows all of it.
    """
    if camera.model_name in ("EQUIRECTANGULAR", "SIMPLE_PINHOLE", "PINHOLE"):
        return small, keypoints
    height, width = small.pixels.shape[:2]
    reduced = pycolmap.Camera(camera.todict())
    reduced.rescale(width, height)
    options = pycolmap.UndistortCameraOptions()
    bitmap, pinhole = pycolmap.undistort_image(options, pycolmap.Bitmap.from_array(small.pixels), reduced)
    rays = np.asarray(reduced.cam_from_img(small.places(keypoints) + 0.5)).reshape(-1, 2)
    on_image = np.asarray(pinhole.img_from_cam(np.column_stack([rays, np.ones(len(rays))]))).reshape(-1, 2) - 0.5
    return Thumbnail(np.ascontiguousarray(bitmap.to_array()), np.ones(2)), on_image


def with_keypoints(small: Thumbnail, keypoints: Array, used: NDArray[np.bool_] | None, limit: int) -> Pixels:
    """Draw at most ``limit`` keypoints, evenly chosen; those with a 3D point in another color.

    Args:
        small: the photograph.
        keypoints: ``(N, 2)`` in pixels of the photograph.
        used: ``(N,)``, part of a 3D point; None where there is no model.
        limit: of the drawn ones.
    """
    picture = small.pixels.copy()
    chosen = np.unique(np.linspace(0, max(0, len(keypoints) - 1), min(limit, len(keypoints))).astype(int))
    flags = np.zeros(len(keypoints), bool) if used is None else used
    chosen = chosen[np.argsort(flags[chosen], kind="stable")]  # used ones on top
    for (x, y), flag in zip(small.places(keypoints[chosen]), flags[chosen], strict=True):
        _dot(picture, x, y, USED if flag else UNUSED)
    return picture


def with_matches(small0: Thumbnail, small1: Thumbnail, points0: Array, points1: Array, limit: int) -> Pixels:
    """Two photographs side by side with at most ``limit`` lines between points, ``(K, 2)`` in each."""
    height = max(small0.pixels.shape[0], small1.pixels.shape[0])
    gap = 6
    offset = small0.pixels.shape[1] + gap
    canvas = np.full((height, offset + small1.pixels.shape[1], 3), 255, np.uint8)
    canvas[: small0.pixels.shape[0], : small0.pixels.shape[1]] = small0.pixels
    canvas[: small1.pixels.shape[0], offset:] = small1.pixels
    chosen = np.random.default_rng(0).permutation(len(points0))[:limit]
    starts = small0.places(points0[chosen])
    ends = small1.places(points1[chosen]) + np.array([offset, 0])
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.75, 0.95)
        color = (round(255 * red), round(255 * green), round(255 * blue))
        first, last = ((round(float(x) * 16), round(float(y) * 16)) for x, y in (start, end))
        cv2.line(canvas, first, last, color, 1, cv2.LINE_AA, shift=4)
        for x, y in (start, end):
            _dot(canvas, x, y, color)
    return canvas


def jpeg_uri(pixels: Pixels, quality: int = 78) -> str:
    """A data URI of a JPEG."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def _dot(picture: Pixels, x: float, y: float, color: tuple[int, int, int]) -> None:
    cv2.circle(picture, (round(x * 16), round(y * 16)), 24, color, -1, cv2.LINE_AA, shift=4)


@torch.inference_mode()
def compute_score_map(extractor: Extractor, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """What an extractor takes keypoints by: S_D2D, PoSFeat's or SuperPoint's detection scores.

    Args:
        extractor: of any feature.
        pixels: ``(h, w, 3)`` RGB.

    Returns:
        ``(h', w')``, of D2D at a quarter of the resolution; None for features without such a map.
    """
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    if extractor.grayscale:
        image = image.mean(dim=1, keepdim=True)
    if isinstance(extractor, d2d.Extractor):
        o = extractor.options
        with inference_precision(extractor.device, o.precision):
            raw = extractor.network(image.to(extractor.device)).float()
        found = score_map(raw, o.radius, o.step, o.relative_on, o.terms)[0]
    elif isinstance(extractor, posfeat.Extractor):
        image = posfeat.pad(image).to(extractor.device)
        with inference_precision(extractor.device, extractor.options.precision):
            local_map, small = describe(extractor.backbone, image, extractor.options.memory << 20)
            found = score(extractor.head, local_map, small, image, extractor.options.memory << 20)
        found = found[: pixels.shape[0], : pixels.shape[1]]
    elif isinstance(extractor, superpoint.Extractor):
        found = extractor.network(image.to(extractor.device)).scores[0]
    else:
        return None
    return found.double().cpu().numpy()
