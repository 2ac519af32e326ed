"""Models for other programs: COLMAP's text files, a PLY of the points, ``transforms.json`` of nerfstudio."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export.transforms import write_transforms
from posfeat_hloc.mapping.reconstruction import read_model

FORMATS = ("text", "ply", "transforms")
"""``text``: COLMAP's model as text. ``ply``: its points with their colours, for viewers. ``transforms``: cameras and
points as nerfstudio reads them, and Gaussian splatting programs that follow it."""


def export(model: Path, formats: Iterable[str], output: Path, images: Path | None = None) -> list[Path]:
    """Write a model in other formats.

    Args:
        model: folder of a COLMAP model.
        formats: some of :data:`FORMATS`.
        output: folder for ``text/``, ``points.ply``, and ``transforms.json`` with its ``sparse_pc.ply``.
        images: folder of the model's photographs, which ``transforms`` names by relative paths.

    Returns:
        what to open, one path for each format.

    Raises:
        MappingError: no model in this folder, or a camera model that the format does not know.
        ConfigurationError: a format that does not exist, or photographs that are not there.
    """
    written = []
    for name in formats:
        if name not in FORMATS:
            raise ConfigurationError(f"there is no format {name!r}; choose from {', '.join(FORMATS)}")
        reconstruction = read_model(model)  # a copy for each, for transforms turns it
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
            if images is None:
                raise ConfigurationError(f"{model}: where are its photographs? transforms.json names them (--images)")
            written.append(write_transforms(reconstruction, images, output))
    return written
