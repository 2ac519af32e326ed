"""Content of the output folder of a run, finished or not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posfeat_hloc.errors import ConfigurationError, Option

KINDS = {
    "sfm": "reconstruction",
    "localize": "localization",
    "aachen": "Aachen Day-Night",
    "hpatches": "matching accuracy",
    "empty": "no results yet",
}
"""Command of ``pipelines`` -> what its page is about."""


@dataclass
class RunFolder:
    """An output folder.

    Attributes:
        path: of it.
        kind: a key of :data:`KINDS`.
        summary: ``summary.json``, empty where there is none.
        images: folder of the photographs, None where it is not known or not there.
        notes: what is missing or damaged, for the reader of the page.
    """

    path: Path
    kind: str
    summary: dict[str, Any] = field(default_factory=dict)
    images: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def command(self) -> dict[str, Any]:
        """Options of the command, as recorded."""
        found = self.summary.get("command", {})
        return found if isinstance(found, dict) else {}

    @property
    def models(self) -> list[Path]:
        """Folders of COLMAP models in ``sparse``, the largest first."""
        folders = [p for p in (self.path / "sparse").glob("*") if p.is_dir() and p.name.isdigit()]
        return sorted(folders, key=lambda folder: int(folder.name))

    def file(self, name: str) -> Path | None:
        """A file of the folder, where it is there."""
        path = self.path / name
        return path if path.is_file() else None


def open_folder(path: Path, images: Path | None = None) -> RunFolder:
    """Look at an output folder.

    Args:
        path: of the folder.
        images: folder of the photographs; where the summary says when None.

    Raises:
        ConfigurationError: no such folder.
    """
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such folder; report takes the output folder of a run")
    notes: list[str] = []
    summary = _summary(path, notes)
    folder = RunFolder(path, _kind(path, summary), summary, notes=notes)
    if folder.kind == "empty":
        folder.notes.append(f"{path} holds no results of sfm, localize, aachen or hpatches.")
    elif not summary:
        folder.notes.append(
            "The run has not finished: there is no usable summary.json. This page shows the results so far; run the "
            "same command again to resume."
        )
    folder.images = _images(folder, images)
    return folder


def _summary(path: Path, notes: list[str]) -> dict[str, Any]:
    file = path / "summary.json"
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        raise ValueError("not an object")
    except (OSError, ValueError) as error:
        notes.append(f"summary.json cannot be read ({error}).")
        return {}


def _kind(path: Path, summary: dict[str, Any]) -> str:
    if "trials" in summary or list(path.glob("seed-*")):
        return "aachen"
    if (path / "queries.jsonl").exists() or "localized" in summary:
        return "localize"
    if "sequences" in summary or (path / "curves.csv").exists() or (path / "measured").is_dir():
        return "hpatches"
    made = ("features.h5", "database.db", "database.partial.db", "pairs.txt", "sparse", "sparse.partial")
    return "sfm" if "images" in summary or any((path / name).exists() for name in made) else "empty"


def _images(folder: RunFolder, given: Path | None) -> Path | None:
    recorded = folder.command.get("images") or folder.command.get("queries")
    first = recorded[0] if isinstance(recorded, list) and recorded else recorded  # of several queries
    path = given or (Path(first) if first else None)
    if folder.kind not in ("sfm", "localize"):
        return None
    if path is not None and path.is_file():  # a list of queries
        path = path.parent
    if path is not None and path.is_dir():
        return path
    if folder.kind == "sfm":
        where = f"at {path}" if path else "known"
        folder.notes.append(
            f"The photographs are not {where}: images are left out. Give their folder by {Option('images')}."
        )
    return None
