"""``transforms.json`` as nerfstudio defines it (https://docs.nerf.studio/quickstart/data_conventions.html).

Cameras look along -z, with x to the right and y up (OpenGL), where COLMAP's look along z with y down. The world is
turned so that z is up, which ``applied_transform`` records. Pixels are COLMAP's: the centre of the first is at
``(0.5, 0.5)``. nerfstudio reads ``camera_model`` beside ``frames`` only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from PIL import Image

from posfeat_hloc.errors import MappingError
from posfeat_hloc.export.upright import Array
from posfeat_hloc.images.decoding import read_orientation
from posfeat_hloc.images.listing import natural_order
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.runtime.output import write_json
from posfeat_hloc.sfm.models import posed_images

_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_FISHEYE = ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE")
CAMERA_MODELS = _PERSPECTIVE + _FISHEYE
"""Of COLMAP, which the format can say."""
_POINTS = "sparse_pc.ply"


def write_transforms(
    model: pycolmap.Reconstruction,
    images: Path,
    output: Path,
    masks: Path | None = None,
    turn: Array | None = None,
) -> Path:
    """Write ``transforms.json`` and its points, ``sparse_pc.ply``, into a folder.

    Args:
        model: is turned on the way.
        images: folder of its photographs.
        output: an existing folder.
        masks: folder of masks. nerfstudio wants one for every photograph or for none, so that white ones are written
            into ``output/masks`` for the rest.
        turn: ``(3, 3)`` rotation of the world that brings z up; None for none.

    Returns:
        path of ``transforms.json``.

    Raises:
        MappingError: a camera has distortion that the format cannot say, or perspective and fisheye cameras are mixed.
        ConfigurationError: none of the photographs has a mask.
    """
    turn = np.eye(3) if turn is None else turn
    model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(turn), np.zeros(3)))
    registered = sorted(posed_images(model).values(), key=lambda image: natural_order(image.name))
    if masks is not None:
        Masks(masks).missing([image.name for image in registered])
    intrinsics = {camera_id: intrinsics_of(camera) for camera_id, camera in model.cameras.items()}
    kinds = {intrinsics[image.camera_id]["camera_model"] for image in registered}
    if len(kinds) > 1:
        raise MappingError("transforms.json cannot mix perspective and fisheye cameras; export undistorted instead")
    shared = len({image.camera_id for image in registered}) == 1
    frames = []
    for image in registered:
        path = _path_from(output, images / image.name)
        frame = {"file_path": path, "transform_matrix": world_from_opengl(image).tolist()}
        if masks is not None:
            camera = model.cameras[image.camera_id]
            mask = _mask(Masks(masks), image.name, images, (camera.width, camera.height), output)
            frame["mask_path"] = _path_from(output, mask)
        frames.append(frame if shared else {**frame, **intrinsics[image.camera_id]})
    result = {
        "camera_model": kinds.pop(),
        **(intrinsics[registered[0].camera_id] if shared else {}),
        "applied_transform": np.hstack([turn, np.zeros((3, 1))]).tolist(),
        "ply_file_path": _POINTS,
        "frames": frames,
    }
    model.export_PLY(output / f"{_POINTS}.partial")
    os.replace(output / f"{_POINTS}.partial", output / _POINTS)
    path_of_json = output / "transforms.json"
    write_json(path_of_json, result)
    return path_of_json


def _mask(masks: Masks, name: str, images: Path, size: tuple[int, int], output: Path) -> Path:
    """The mask of a photograph; a new one where there is none, or where it is of the image turned upright."""
    found = masks.path(name)
    if found is not None and read_orientation(images / name) == 1:
        return found
    path = output / "masks" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(masks.stored(name, images / name, size)).save(path, "PNG")
    return path


def _path_from(folder: Path, path: Path) -> str:
    """A path relative to a folder, with ``/``; the whole path where both are on different drives."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows
        return path.resolve().as_posix()


def world_from_opengl(image: pycolmap.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``(4, 4)`` from coordinates of the camera, y up and z backwards, to those of the world."""
    result = np.eye(4)
    result[:3] = image.cam_from_world().inverse().matrix()
    result[:3, 1:3] *= -1
    return result


def intrinsics_of(camera: pycolmap.Camera) -> dict[str, Any]:
    """A COLMAP camera in the words of ``transforms.json``.

    Raises:
        MappingError: of a model with distortion that OpenCV's two models there do not have.
    """
    values = dict(zip(camera.params_info.split(", "), camera.params.tolist(), strict=True))
    result = {
        "w": camera.width,
        "h": camera.height,
        "fl_x": values.get("fx", values.get("f")),
        "fl_y": values.get("fy", values.get("f")),
        "cx": values["cx"],
        "cy": values["cy"],
    }
    radial = {"k1": values.get("k1", values.get("k", 0.0)), "k2": values.get("k2", 0.0)}
    if camera.model_name in _PERSPECTIVE:
        tangential = {"p1": values.get("p1", 0.0), "p2": values.get("p2", 0.0)}
        return {"camera_model": "OPENCV", **result, **radial, **tangential}
    if camera.model_name in _FISHEYE:
        higher = {"k3": values.get("k3", 0.0), "k4": values.get("k4", 0.0)}
        return {"camera_model": "OPENCV_FISHEYE", **result, **radial, **higher}
    raise MappingError(
        f"transforms.json has no camera model like {camera.model_name}; export undistorted "
        f"instead, or reconstruct with one of {', '.join(_PERSPECTIVE + _FISHEYE)}"
    )
