"""Keep the coordinate frame of a model that is reconstructed again, because photographs were added or removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap

from posfeat_hloc.errors import MappingError
from posfeat_hloc.sfm.alignment import FEWEST, align_to_model, positions_of
from posfeat_hloc.sfm.reconstruction import read_model, write_model

_STASH = "previous"


def remember_frame(output: Path) -> None:
    """Put the largest model of a run aside, before another one is made; a run that is killed leaves it there.

    Args:
        output: of a reconstruction.
    """
    sparse, stash = output / "sparse" / "0", output / _STASH
    if stash.exists() or not sparse.is_dir():
        return
    partial = output / f"{_STASH}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(sparse, partial)
    partial.replace(stash)


def keep_frame(output: Path) -> str:
    """Move new models to where their images were in the one put aside, which is deleted; say how well that went.

    Models of the same images as before are left as they are, to the last digit.

    Args:
        output: of a reconstruction, with models in ``sparse``.

    Returns:
        a remark for the summary; empty where nothing was moved.
    """
    stash = output / _STASH
    if not stash.exists():
        return ""
    try:
        return _align_all(output / "sparse", read_model(stash))
    except MappingError as error:
        return f"another than before: {error}"
    finally:
        shutil.rmtree(stash, ignore_errors=True)


def _align_all(sparse: Path, previous: pycolmap.Reconstruction) -> str:
    folders = sorted((path for path in sparse.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    models = {folder: read_model(folder) for folder in folders}
    before = set(positions_of(previous))
    if before == {name for model in models.values() for name in positions_of(model)}:
        return ""
    remark = ""
    for folder, model in models.items():
        common = before & set(positions_of(model))
        if len(common) < FEWEST:
            remark = remark or f"another than before: only {len(common)} photographs are in both models"
            continue
        found = align_to_model(model, previous)
        write_model(model, folder)
        if folder == folders[0]:
            remark = f"as before, by {found.common} photographs, now at a median distance of {found.distance:.3g}"
    return remark
