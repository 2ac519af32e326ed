"""Align finished models to GPS positions: metres east, north and up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import MappingError
from posfeat_hloc.runtime.output import write_json
from posfeat_hloc.sfm.alignment import extent_of
from posfeat_hloc.sfm.gps import LocalPositions
from posfeat_hloc.sfm.models import model_folders, posed_images, read_model, write_model

FEWEST = 3
"""Positions that determine a turn, a scale and a shift."""

_FILE = "georeference.json"
_ROUGH = 0.25  # a distance to GPS of so much of the models' extent leaves scale and direction uncertain
_LINE = 0.05  # positions are on a line when they extend so much less across it


@dataclass(frozen=True)
class Alignment:
    """The alignment of one model.

    Attributes:
        model: its number.
        positions: images of the model with a GPS position.
        aligned: whether the model is in metres now; otherwise it is as the mapper left it.
        distance: median from cameras to their GPS positions, of those that count, in metres; 0 where not aligned.
        extent: root mean square distance of the positions from their middle, in metres.
        note: what leaves doubts, or why it is not aligned; empty when all checks passed.
        inliers: positions that count.
        maximum: largest distance of those, in metres.
        outliers: image whose position does not count -> its distance in metres.
    """

    model: int
    positions: int
    aligned: bool
    distance: float
    extent: float
    note: str
    inliers: int = 0
    maximum: float = 0.0
    outliers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Georeference:
    """The alignments of models.

    Attributes:
        origin: latitude, longitude and altitude of ``(0, 0, 0)`` on WGS 84; x is east, y north, z up, in metres.
        models: the largest first.
    """

    origin: tuple[float, float, float]
    models: list[Alignment]


def georeference(sparse: Path, positions: LocalPositions, seed: int = 0) -> Georeference:
    """Align every model ``sparse/0``, ``sparse/1``, ... to GPS positions by one similarity each, and keep a record.

    The similarity is estimated by RANSAC: positions further off than three standard deviations do not count. A model
    stays as it is where the others are fewer than half, are the same place but for one, or spread over less than that.
    The shape of a model does not change.

    Args:
        sparse: folder of models; they are rewritten, and ``georeference.json`` is written beside them.
        positions: of images.
        seed: of RANSAC.

    Raises:
        MappingError: a model cannot be read.
    """
    found = Georeference(positions.origin, [_align(folder, positions, seed) for folder in model_folders(sparse)])
    write_json(sparse / _FILE, asdict(found))
    return found


def read_georeference(sparse: Path) -> Georeference:
    """Read what :func:`georeference` recorded; raises MappingError where there is no such record."""
    path = sparse / _FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        latitude, longitude, altitude = values["origin"]
        return Georeference((latitude, longitude, altitude), [Alignment(**model) for model in values["models"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MappingError(f"{path}: cannot be read ({error}); delete {sparse} and run again") from error


def _align(folder: Path, positions: LocalPositions, seed: int) -> Alignment:
    model = read_model(folder)
    images = [image for name, image in posed_images(model).items() if name in positions.metres]
    number, count = int(folder.name), len(images)
    places = np.array([positions.metres[image.name] for image in images]).reshape(-1, 3)
    extent = extent_of(places) if count else 0.0

    def refused(note: str) -> Alignment:
        return Alignment(number, count, False, 0.0, extent, note)

    if count < FEWEST:
        return refused(f"only {count} of its {model.num_reg_images()} images have a GPS position, {FEWEST} are needed")
    if (why := _too_few_places(places, "")) is not None:
        return refused(why)
    threshold = 3 * positions.error
    options = pycolmap.RANSACOptions(max_error=threshold, random_seed=seed)
    names = [str(image.name) for image in images]
    similarity = pycolmap.align_reconstruction_to_locations(model, names, places, FEWEST, options)
    if similarity is None:
        return refused(f"no turn and scale bring {FEWEST} of its {count} GPS positions within {threshold:.0f} m")
    model.transform(similarity)
    distances = np.linalg.norm(np.array([image.projection_center() for image in images]) - places, axis=1)
    near = distances <= threshold
    if (why := _undetermined(places[near], count, threshold)) is not None:
        return refused(why)
    write_model(model, folder)
    distance, extent = float(np.median(distances[near])), extent_of(places[near])
    outliers = {names[i]: float(distances[i]) for i in np.flatnonzero(~near)}
    doubts = _doubts(places[near], distance, extent)
    return Alignment(
        number, count, True, distance, extent, doubts, int(near.sum()), float(distances[near].max()), outliers
    )


def _too_few_places(places: NDArray[np.float64], which: str) -> str | None:
    """Positions that are the same to the centimetre tell nothing of scale, however many images share them."""
    different = len(np.unique(np.round(places[:, :2], 2), axis=0))
    if different == 1:
        return f"its {len(places)} GPS positions{which} are identical"
    if different < FEWEST:
        return (
            f"its {len(places)} GPS positions{which} are only {different} different places, {FEWEST} are needed: they "
            "look rounded; take photographs whose EXIF keeps all digits"
        )
    return None


def _undetermined(inliers: NDArray[np.float64], count: int, threshold: float) -> str | None:
    """Why the positions that agree with a model do not determine its scale; None where they do."""
    if 2 * len(inliers) < count:
        return (
            f"only {len(inliers)} of its {count} GPS positions agree with its cameras within {threshold:.0f} m; most "
            "are wrong, or the model is"
        )
    if (why := _too_few_places(inliers, " that agree with its cameras")) is not None:
        return why
    span = max(float(np.linalg.norm(inliers - place, axis=1).max()) for place in inliers)
    if span < threshold:
        return (
            f"its GPS positions spread over {span:.1f} m, less than the {threshold:.0f} m that they may be off, so "
            "that the scale is not determined"
        )
    return None


def _doubts(places: NDArray[np.float64], distance: float, extent: float) -> str:
    """What a user must know before measuring in an aligned model."""
    spread = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)
    if distance > _ROUGH * extent:
        return f"GPS is too coarse for positions that spread over {extent:.1f} m: scale and directions are rough"
    if spread[1] < _LINE * spread[0]:
        return "the positions lie on a line: how the model is turned about it is not determined"
    return ""
