"""Alignment of models: similarities to other models and to known positions, and the frame of an earlier run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, MappingError, Option
from posfeat_hloc.runtime.output import only_writer
from posfeat_hloc.runtime.text_files import numbered_lines
from posfeat_hloc.sfm.models import find_model, model_folders, posed_images, read_model, write_model

Array = NDArray[np.float64]

FEWEST = 3
"""Positions that determine a turn, a scale and a shift."""

_LINE = 0.02  # positions are on a line when they extend so much less across it


@dataclass(frozen=True)
class Alignment:
    """How a model was moved.

    Attributes:
        similarity: from the model as it was.
        common: cameras that both have.
        distance: median distance of these cameras after the move, in the units of the target.
        note: what leaves doubts; empty when all checks passed.
    """

    similarity: pycolmap.Sim3d
    common: int
    distance: float
    note: str = ""


def read_camera_positions(path: Path) -> dict[str, Array]:
    """Positions of cameras, ``name x y z`` a line; names may hold spaces; a line that starts with ``#`` and is of
    another form is a comment.

    Returns:
        image name -> ``(3,)``.

    Raises:
        MappingError: no such file, no positions, or a line of another form.
    """
    positions = {}
    for number, line in numbered_lines(path, "a list of positions", MappingError):
        name, *words = line.strip().rsplit(maxsplit=3)
        try:
            place = np.array(words, np.float64)
            if place.shape != (3,) or not np.isfinite(place).all():
                raise ValueError
        except ValueError as error:
            if line.startswith("#"):
                continue
            raise MappingError(f"{path}, line {number}: write 'name x y z', not {line!r}") from error
        positions[name] = place
    if not positions:
        raise MappingError(f"{path}: holds no positions")
    return positions


def positions_of(model: pycolmap.Reconstruction) -> dict[str, Array]:
    """Image name -> centre ``(3,)`` of its camera, of the images with a pose."""
    return {name: image.projection_center() for name, image in posed_images(model).items()}


def align_to_positions(
    model: pycolmap.Reconstruction, positions: Mapping[str, Array], max_error: float | None = None, seed: int = 0
) -> Alignment:
    """Transform a model so that its cameras are at known positions.

    Args:
        model: changed in place; its shape stays.
        positions: image name -> ``(3,)``.
        max_error: positions further off do not count (RANSAC); a fiftieth of their extent when None.
        seed: of RANSAC.

    Raises:
        MappingError: fewer than three of its cameras have a position, or no three of them agree.
    """
    names = sorted(positions.keys() & positions_of(model).keys())
    places = np.array([positions[name] for name in names]).reshape(-1, 3)
    if len(names) < FEWEST:
        raise MappingError(f"{len(names)} of the model's cameras have a known position, {FEWEST} are needed")
    extent = float(np.linalg.norm(places - places.mean(axis=0), axis=1).max())
    options = pycolmap.RANSACOptions(max_error=max_error or extent / 50, random_seed=seed)
    similarity = pycolmap.align_reconstruction_to_locations(model, names, places, FEWEST, options)
    if similarity is None:
        raise MappingError(
            f"no turn and scale bring {FEWEST} of {len(names)} cameras within {options.max_error:.3g} of their "
            "positions; are they of these images? A larger ",
            Option("max_error"),
            " allows more",
        )
    model.transform(similarity)
    spread = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)
    line = spread[1] < _LINE * spread[0]
    note = "the positions lie on a line: how the model is turned about it is not determined" if line else ""
    return Alignment(similarity, len(names), _distance(model, {name: positions[name] for name in names}), note)


def align_to_model(model: pycolmap.Reconstruction, target: pycolmap.Reconstruction) -> Alignment:
    """Align a model to another one by their common images.

    By the positions and directions of their common cameras, least squares.

    Args:
        model: changed in place; its shape stays.
        target: stays.

    Raises:
        MappingError: fewer than three common images, or they lie differently in both.
    """
    common = {name: place for name, place in positions_of(target).items() if name in positions_of(model)}
    if len(common) < FEWEST:
        raise MappingError(f"the models have {len(common)} images in common, {FEWEST} are needed")
    similarity = aligned_to(model, target)
    if similarity is None:
        raise MappingError("all common images are at one place, so the scale is unknown")
    model.transform(similarity)
    return Alignment(similarity, len(common), _distance(model, common))


def aligned_to(model: pycolmap.Reconstruction, target: pycolmap.Reconstruction) -> pycolmap.Sim3d | None:
    """The similarity that brings the cameras of a model to those of the same names, by positions and directions.

    Least squares over the centres of the cameras and points before them, so that cameras on a line are no exception.
    None where fewer than two images are common.
    """
    there = posed_images(target)
    pairs = [(image, there[name]) for name, image in posed_images(model).items() if name in there]
    if len(pairs) < 2:
        return None
    centres = np.array([[image.projection_center() for image in pair] for pair in pairs])
    scale0, scale1 = extent_of(centres[:, 0]), extent_of(centres[:, 1])
    if not (scale0 > 0 and scale1 > 0):
        return None
    source = np.concatenate([_probes(image, scale0) for image, _ in pairs])
    goal = np.concatenate([_probes(image, scale1) for _, image in pairs])
    return pycolmap.estimate_sim3d(source, goal)


def extent_of(places: Array) -> float:
    """Root mean square distance of places ``(N, 3)`` from their middle."""
    return float(np.sqrt(np.mean(np.sum((places - places.mean(axis=0)) ** 2, axis=1))))


def _probes(image: pycolmap.Image, scale: float) -> Array:
    """The centre of a camera and points along its axes ``(4, 3)``, a tenth of the scene's extent from it."""
    local = np.concatenate([np.zeros((1, 3)), np.eye(3) * scale / 10])
    return np.asarray(image.cam_from_world().inverse() * local)


def _distance(model: pycolmap.Reconstruction, places: Mapping[str, Array]) -> float:
    """Median distance of cameras to places."""
    found = positions_of(model)
    return float(np.median([np.linalg.norm(found[name] - place) for name, place in places.items()]))


def align_map(
    model: Path,
    output: Path,
    to: Path | None = None,
    positions: Path | None = None,
    max_error: float | None = None,
    seed: int = 0,
) -> Alignment:
    """Move a model onto another one, or to known positions of its cameras.

    Args:
        model: output folder of a reconstruction, or a COLMAP model.
        output: folder of the moved model.
        to: a model with some of the same images.
        positions: file of ``name x y z`` a line, in any Cartesian frame.
        max_error: positions further off do not count; a fiftieth of their extent when None.
        seed: of RANSAC.

    Raises:
        ConfigurationError: no model there, or neither or both of ``to`` and ``positions``.
        MappingError: the model does not fit.
    """
    if (to is None) == (positions is None):
        raise ConfigurationError("give either a model or positions to align to")
    moving = read_model(_model_in(model))
    try:
        if to is not None:
            found = align_to_model(moving, read_model(_model_in(to)))
        elif positions is not None:
            found = align_to_positions(moving, read_camera_positions(positions), max_error, seed)
    except MappingError as error:
        raise MappingError(f"{model}: cannot be aligned to {to or positions}: ", *error.args) from error
    with only_writer(output):
        write_model(moving, output)
    return found


def _model_in(folder: Path) -> Path:
    found = find_model(folder)
    if found is None:
        raise ConfigurationError(f"{folder}: no COLMAP model here or in sparse/0")
    return found


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
    """Align new models to the previous one by their common images, delete the previous one, and report the alignment.

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
    folders = model_folders(sparse)
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
