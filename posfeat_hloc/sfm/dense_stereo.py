"""Dense points by COLMAP's patch-match stereo, which needs CUDA."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.output import write_atomically

NO_CUDA = "this pycolmap was built without CUDA, which COLMAP's stereo needs; install one that was built with it"


def has_stereo() -> bool:
    """Whether dense points can be computed here."""
    return bool(pycolmap.has_cuda)


def dense_points(model: Path, images: Path, workspace: Path, key: str) -> int:
    """Undistort, estimate depth maps, fuse them into ``workspace/fused.ply``, and count the points.

    Depth maps of a killed run are kept, and a finished count too, as long as ``key`` is the same.

    Args:
        model: folder of a COLMAP model.
        images: folder of its images.
        workspace: folder of everything that is made.
        key: identifies the model's content.

    Raises:
        MappingError: no CUDA, or COLMAP failed.
    """
    if not has_stereo():
        raise MappingError(NO_CUDA)
    made_from, count = workspace / "model.key", workspace / "points.txt"
    if not made_from.exists() or made_from.read_text() != key:
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True)
    if count.exists():
        return int(count.read_text())
    try:
        if not made_from.exists():
            pycolmap.undistort_images(workspace, model, images)
            write_atomically(made_from, key)
        pycolmap.patch_match_stereo(workspace)
        fused = pycolmap.stereo_fusion(workspace / "fused.ply", workspace, output_type="ply")
    except (RuntimeError, ValueError) as error:
        raise MappingError(f"{workspace}: COLMAP's stereo failed ({error})") from error
    write_atomically(count, str(fused.num_points3D()))
    return int(count.read_text())
