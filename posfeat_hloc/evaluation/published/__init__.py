"""Published numbers, read from the tables in this folder; ``README.md`` names their sources."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posfeat_hloc.evaluation.homography import GROUPS, MmaResult

_FOLDER = Path(__file__).parent
MMA_SOURCE = "PoSFeat fig. 5"


@dataclass(frozen=True)
class PublishedModel:
    """One row of a paper's table of reconstructions.

    Attributes:
        dataset, method: as the paper names them.
        paper: which one, and its table.
        images, registered: how many there are, how many have a pose.
        points, dense_points: as rounded in print; None where the paper has none.
        track_length: mean number of observations of a point.
        reprojection_error: mean, in pixels.
    """

    dataset: str
    method: str
    paper: str
    images: int
    registered: int
    points: int
    dense_points: int | None
    track_length: float
    reprojection_error: float


def published_mma() -> dict[str, MmaResult]:
    """Method -> published MMA curves on the 108 HPatches sequences."""
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _rows("hpatches.csv"):
        rows.setdefault(row["method"], []).append(row)
    return {
        method: MmaResult(
            curves={group: np.array([float(row[group]) for row in found]) for group in GROUPS},
            keypoints=float(found[0]["keypoints"]),
            matches=float(found[0]["matches"]),
            sequences={},
        )
        for method, found in rows.items()
    }


def published_models(dataset: str) -> list[PublishedModel]:
    """Published rows of a data set, found by the letters of its name: ``fountain-P11`` is ``Fountain``."""
    letters = _letters(dataset)
    return [_model(row) for row in _rows("eth.csv") if letters.startswith(_letters(row["dataset"]))]


def published_cell(table: str, row: str, column: str) -> float | None:
    """A number of one of the papers' ablation tables; None where the paper has none.

    Args:
        table: ``D2D Table 3`` (row: saliency, column: network; mean MMA in percent), ``D2D Table 5`` (row: detector of
            the destination image, column: of the source image) or ``PoSFeat Table 4`` (row: N_line, column: w_patch).
        row, column: as the paper names them; saliencies as :data:`posfeat_hloc.detection.d2d.TERMS`.
    """
    cells = (r["value"] for r in _rows("ablations.csv") if (r["table"], r["row"], r["column"]) == (table, row, column))
    return next((float(value) for value in cells), None)


def _model(row: dict[str, str]) -> PublishedModel:
    return PublishedModel(
        dataset=row["dataset"],
        method=row["method"],
        paper=row["paper"],
        images=int(row["images"]),
        registered=int(row["registered"]),
        points=int(row["points"]),
        dense_points=int(row["dense_points"]) if row["dense_points"] else None,
        track_length=float(row["track_length"]),
        reprojection_error=float(row["reprojection_error"]),
    )


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalpha())


def _rows(name: str) -> list[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
