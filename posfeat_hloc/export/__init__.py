"""Models for other programs: COLMAP's text files, a PLY of the points, ``transforms.json``, undistorted photographs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pycolmap

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.export.transforms import CAMERA_MODELS, write_transforms
from posfeat_hloc.export.undistorted import write_undistorted
from posfeat_hloc.export.upright import Array, up_direction
from posfeat_hloc.geometry.rotations import rotation_between
from posfeat_hloc.images.decoding import read_orientation
from posfeat_hloc.images.formats import colmap_reads
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.runtime.resume import CacheKey
from posfeat_hloc.sfm.models import find_model, posed_images, read_model, registered_names
from posfeat_hloc.sfm.options import ExportFormat
from posfeat_hloc.sfm.options import ExportOptions as ExportOptions
from posfeat_hloc.sfm.summary import recorded_command

FORMATS = get_args(ExportFormat)
"""``text``: COLMAP's model as text. ``ply``: its points with their colors, for viewers. ``transforms``: cameras and
points as nerfstudio reads them. ``undistorted``: photographs without distortion and the model that belongs to them, for
Gaussian splatting and dense stereo."""

_Z, _MINUS_Y = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])  # what is up in nerfstudio, and for readers of COLMAP


def check_formats(formats: Iterable[str], camera_model: str) -> None:
    """Refuse, before there is a model, what it could not be exported to.

    Raises:
        ConfigurationError: a format that does not exist, or that has no such camera model.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigurationError(f"there is no format {name!r}; choose from {', '.join(FORMATS)}")
        if name == "undistorted" and camera_model == "EQUIRECTANGULAR":
            raise ConfigurationError(
                Option("export", "undistorted"), ": a panorama cannot be undistorted to one pinhole image; leave it out"
            )
        if name == "transforms" and camera_model not in CAMERA_MODELS:
            raise ConfigurationError(
                Option("export", "transforms"),
                f": transforms.json has no camera model like {camera_model}; leave it out, or choose a ",
                Option("camera_model"),
                f" from {', '.join(CAMERA_MODELS)}",
            )


def export(
    model: Path,
    formats: Iterable[str],
    output: Path,
    images: Path | None = None,
    options: ExportOptions | None = None,
) -> list[Path]:
    """Write a model in other formats.

    Args:
        model: folder of a COLMAP model.
        formats: some of :data:`FORMATS`.
        output: folder for ``text/``, ``points.ply``, ``transforms.json`` with its ``sparse_pc.ply``, ``undistorted/``.
        images: folder of the model's photographs, for ``transforms`` and ``undistorted``.
        options: see :class:`ExportOptions`.

    Returns:
        what to open, one path for each format.

    Raises:
        MappingError: no model in this folder, or a camera model that the format does not know.
        ImageError: a photograph cannot be read, for ``undistorted``.
        ConfigurationError: a format that does not exist, or photographs or masks that are not there.
    """
    options = options or ExportOptions()
    written = []
    for name in formats:
        if name not in FORMATS:
            raise ConfigurationError(f"there is no format {name!r}; choose from {', '.join(FORMATS)}")
        reconstruction = read_model(model)  # a copy for each, for some turn it
        output.mkdir(parents=True, exist_ok=True)
        if name == "text":
            (output / "text").mkdir(exist_ok=True)
            reconstruction.write_text(output / "text")
            written.append(output / "text")
        elif name == "ply":
            partial = output / "points.ply.partial"
            reconstruction.export_PLY(partial)
            os.replace(partial, output / "points.ply")
            written.append(output / "points.ply")
        else:
            photographs = _photographs(reconstruction, model, images, name)
            turn = _turn(reconstruction, model, photographs, _Z if name == "transforms" else _MINUS_Y, options)
            if name == "transforms":
                written.append(write_transforms(reconstruction, photographs, output, options.masks, turn))
            else:
                written.append(_undistort(reconstruction, model, photographs, output / name, turn, options))
    return written


def _photographs(model: pycolmap.Reconstruction, folder: Path, images: Path | None, name: str) -> Path:
    """The folder of the photographs, all of which are there."""
    if images is None:
        raise ConfigurationError(
            f"{folder}: the folder of its photographs is not known; {name} needs them (", Option("images"), ")"
        )
    names = registered_names(model)
    if missing := [name for name in names if not (images / name).is_file()]:
        raise ConfigurationError(
            f"{images}: does not hold {missing[0]!r} ({len(missing)} of the {len(names)} photographs of the model)"
            "; name their folder by ",
            Option("images"),
        )
    return images


def _turn(
    model: pycolmap.Reconstruction, folder: Path, images: Path, up: Array, options: ExportOptions
) -> Array | None:
    """The rotation ``(3, 3)`` that brings the model's up direction to ``up``; None for models that stay."""
    if options.keep_frame or (folder.parent / "georeference.json").exists():
        return None
    posed = posed_images(model)
    orientations = {name: read_orientation(images / name) for name in posed}
    return rotation_between(up_direction(list(posed.values()), orientations), up)


def _undistort(
    model: pycolmap.Reconstruction, folder: Path, images: Path, output: Path, turn: Array | None, options: ExportOptions
) -> Path:
    """Undistorted photographs; those that are there already stay when nothing has changed."""
    names = registered_names(model)
    found = [fingerprint(images / name) for name in names]
    if options.masks is not None:
        paths = (Masks(options.masks).path(name) for name in names)
        found += ["" if path is None else fingerprint(path) for path in paths]
    files = sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".txt"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    turned = None if turn is None else turn.tolist()
    with CacheKey(output, [digests, found, turned, options.max_size]) as made:
        if not made.is_valid:
            write_undistorted(model, images, output, turn, options)
    return output


def model_and_folders(
    path: Path, images: Path | None = None, masks: Path | None = None
) -> tuple[Path, Path | None, Path | None]:
    """The model of an output folder, and the folders of its photographs and masks.

    Args:
        path: output folder of a reconstruction, or a COLMAP model in one or elsewhere.
        images, masks: where the run had them when None; None where that is unknown.

    Raises:
        ConfigurationError: no model there.
    """
    model = find_model(path)
    if model is None:
        raise ConfigurationError(f"{path}: no COLMAP model here or in sparse/0")
    folders = (path, *path.resolve().parents[:2])  # the model itself, sparse/, or the output folder
    known = next((found for folder in folders if (found := recorded_command(folder)).get("images")), {})
    images, masks = (
        given or (Path(known[name]) if known.get(name) else None)
        for name, given in (("images", images), ("masks", masks))
    )
    return model, images, masks


def readable_by_colmap(model: Path, images: Path, folder: Path) -> tuple[Path, Path]:
    """A model and the folder of its photographs that COLMAP can decode.

    Args:
        model: folder of a COLMAP model.
        images: folder of its photographs.
        folder: is made where COLMAP cannot decode some of them: all of them undistorted by our own reader, as JPEG and
            PNG, and the model that belongs to them.

    Returns:
        ``model`` and ``images``, or those in ``folder``.

    Raises:
        MappingError: no model there, or a camera that cannot be undistorted.
        ImageError: a photograph cannot be read.
    """
    reconstruction = read_model(model)
    if all(colmap_reads(images / name) for name in registered_names(reconstruction)):
        return model, images
    write_undistorted(reconstruction, images, folder, options=ExportOptions(progress=False))
    return folder / "sparse" / "0", folder / "images"
