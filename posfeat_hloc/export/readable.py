"""Models and photographs for COLMAP's own programs, which decode neither WebP nor HEIC, AVIF or JPEG 2000."""

from __future__ import annotations

from pathlib import Path

from posfeat_hloc.export.undistorted import UndistortOptions, write_undistorted
from posfeat_hloc.images.formats import colmap_reads
from posfeat_hloc.sfm.models import read_model


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
    if all(colmap_reads(images / image.name) for image in reconstruction.images.values() if image.has_pose):
        return model, images
    write_undistorted(reconstruction, images, folder, options=UndistortOptions(progress=False))
    return folder / "sparse" / "0", folder / "images"
