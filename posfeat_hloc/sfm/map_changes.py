"""Models of a run joined, a model moved, and what the folder of a map says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc.errors import ConfigurationError, MappingError
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.sfm.alignment import Alignment, align_to_model, align_to_positions, read_camera_positions
from posfeat_hloc.sfm.merge import Merged, merge_models
from posfeat_hloc.sfm.reconstruction import ModelSummary, find_model, read_model, summarize, write_model
from posfeat_hloc.sfm.summary import recorded_command


@dataclass(frozen=True)
class MergedMap:
    """What became of the models of a run.

    Attributes:
        model: the merged one; None where none could be joined.
        joined: models that are part of it, besides the first.
        left: number of models that are not.
    """

    model: ModelSummary | None
    joined: list[Merged]
    left: int


def merge_map(map_folder: Path, output: Path | None = None, seed: int = 0) -> MergedMap:
    """Join the models of a run that share points.

    Args:
        map_folder: output of :func:`posfeat_hloc.sfm.pipeline.reconstruct` with several models in ``sparse/``.
        output: folder of the merged model; ``merged`` in ``map_folder`` when None.
        seed: of all random choices.

    Raises:
        ConfigurationError: fewer than two models, or no database.
    """
    folders = sorted((p for p in (map_folder / "sparse").glob("*") if p.name.isdigit()), key=lambda p: int(p.name))
    if len(folders) < 2 or not (map_folder / "database.db").is_file():
        raise ConfigurationError(
            f"{map_folder}: merging needs several models in sparse/, not {len(folders)}, and their database.db"
        )
    models = [read_model(folder) for folder in folders]
    target, joined = merge_models(models, map_folder / "database.db", seed)
    left = len(models) - 1 - len(joined)
    if not joined:
        return MergedMap(None, [], left)
    output = output or map_folder / "merged"
    with only_writer(output):
        write_model(target, output)
    return MergedMap(summarize(target, output), joined, left)


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


def write_summary(
    output: Path,
    model: ModelSummary,
    images: Path,
    feature: str,
    record: dict[str, Any],
    origin: Path | None = None,
) -> None:
    """Write what localization and export look for in the folder of a map.

    Args:
        output: of the map.
        model: of it.
        images: folder of its photographs.
        feature: name of its features.
        record: options that it was made with.
        origin: map whose weights it has, where ``record`` names none; ``output`` itself when None.
    """
    command = record | {"images": str(images), "feature": feature}
    if command.get("weights") is None:
        command["weights"] = recorded_command(origin or output).get("weights")
    found = {"registered": model.registered, "model": model.as_dict(), "command": command}
    write_atomically(output / "summary.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
