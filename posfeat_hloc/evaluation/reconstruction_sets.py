"""Folders to reconstruct: the ETH local feature benchmark and Strecha's sets with true cameras."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.decoding import list_images

LAYOUT = (
    "<set>/images/ with photographs, and maybe <set>/database.db (ETH local feature benchmark) or "
    "<set>/cameras/<image>.camera (Strecha)"
)


@dataclass(frozen=True)
class ReconstructionSet:
    """One set of photographs.

    Attributes:
        name: of the folder.
        images: folder of the photographs.
        names: of the photographs, relative to ``images``.
        cameras: folder of true cameras, or None.
        missing: images that the benchmark's database lists and that are not in the folder.
        unlisted: number of images in the folder that its database does not list.
    """

    name: str
    images: Path
    names: list[str]
    cameras: Path | None
    missing: list[str]
    unlisted: int


def find_reconstruction_sets(folder: Path) -> tuple[list[ReconstructionSet], dict[str, str]]:
    """The set in a folder, or those in its subfolders.

    Returns:
        the sets, sorted by name, and subfolder -> why it is no set.

    Raises:
        ConfigurationError: no such folder, or no set in it; the message shows the layout that is expected and what was
            found.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; expected {LAYOUT}")
    if (folder / "images").is_dir():
        return [_read(folder)], {}
    found, unusable = [], {}
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if not entry.is_dir():
            continue
        try:
            if not (entry / "images").is_dir():
                raise ConfigurationError(f"{entry}: has no folder images")
            found.append(_read(entry))
        except ConfigurationError as error:
            unusable[entry.name] = str(error)
    if not found:
        names = ", ".join(entry.name for entry in entries[:5]) or "nothing"
        more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
        raise ConfigurationError(f"{folder}: holds no set to reconstruct; expected {LAYOUT}; found {names}{more}")
    return found, unusable


def _read(folder: Path) -> ReconstructionSet:
    names = list_images(folder / "images")
    database, cameras = folder / "database.db", folder / "cameras"
    listed = _listed_images(database) if database.is_file() else names
    return ReconstructionSet(
        folder.resolve().name,
        folder / "images",
        names,
        cameras if any(cameras.glob("*.camera")) else None,
        sorted(set(listed) - set(names)),
        len(set(names) - set(listed)),
    )


def _listed_images(database: Path) -> list[str]:
    """Image names in the benchmark's database, which is only read: COLMAP would bring it to its newest form."""
    uri = f"file:{quote(str(database.resolve()))}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True)
        try:
            return [name for (name,) in connection.execute("SELECT name FROM images")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigurationError(f"{database}: is not a COLMAP database ({error}); get the file again") from error
