"""Locations of the files of Aachen Day-Night: as unpacked, as the local feature challenge and as PoSFeat has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from posfeat_hloc.aachen.colmap_files import image_names
from posfeat_hloc.aachen.nvm import NvmFile
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.localization.queries import read_queries
from posfeat_hloc.stores.pairs import read_pairs

_LISTED = 10  # missing images named in a message; a folder of images is missing as a whole, as a rule


@dataclass(frozen=True)
class _Role:
    """A file or folder of the data set: what it is for, and where it can be; the first place that exists is taken."""

    purpose: str
    places: tuple[str, ...]

    def find(self, root: Path) -> Path | None:
        return next((root / place for place in self.places if (root / place).exists()), None)


_IMAGES = _Role("photographs of the database and the queries", ("images_upright", "images/images_upright"))
_DAY = _Role("day queries with intrinsics", ("queries/day_time_queries_with_intrinsics.txt",))
_V1 = {
    "images": _IMAGES,
    "model": _Role(
        "reference model: poses of the database images",
        ("3D-models/aachen_cvpr2018_db.nvm", "3D-models/aachen_v_1/aachen_cvpr2018_db.nvm"),
    ),
    "intrinsics": _Role(
        "cameras of the database images",
        ("3D-models/database_intrinsics.txt", "3D-models/aachen_v_1/database_intrinsics.txt"),
    ),
    "day": _DAY,
    "night": _Role("night queries with intrinsics", ("queries/night_time_queries_with_intrinsics.txt",)),
    "pairs": _Role("pairs of the challenge", ("image_pairs_to_match.txt", "others/image_pairs_to_match.txt")),
    "database": _Role("prepared database of the challenge", ("database.db", "others/database.db")),
}
_V1_1 = {
    "images": _IMAGES,
    "model": _Role(
        "reference model: poses and cameras of the database images",
        (
            "3D-models/aachen_v_1_1/images.bin",
            "3D-models/aachen_v_1_1/images.txt",
            "3D-models/aachen_v_1_1/aachen_v_1_1.nvm",
        ),
    ),
    "intrinsics": _Role(
        "cameras of the database images",
        ("3D-models/aachen_v_1_1/database_intrinsics_v1_1.txt", "3D-models/database_intrinsics_v1_1.txt"),
    ),
    "day": _DAY,
    "night": _Role(
        "night queries with intrinsics",
        ("queries/night_time_queries_with_intrinsics_v1_1.txt", "queries/night_time_queries_with_intrinsics.txt"),
    ),
    "pairs": _Role("pairs of the challenge", ("image_pairs_to_match_v1_1.txt", "others/image_pairs_to_match_v1_1.txt")),
    "database": _Role("prepared database of the challenge", ("database_v1_1.db", "others/database_v1_1.db")),
}
_ROLES = {"v1": _V1, "v1.1": _V1_1}


@dataclass(frozen=True)
class Dataset:
    """The files of one version that one protocol needs; all are there.

    Attributes:
        root: folder that the user named.
        version: ``v1`` or ``v1.1``.
        protocol: ``hloc`` or ``challenge``.
        images: folder that image names are relative to.
        model: an NVM file, or the folder of a COLMAP model.
        intrinsics: cameras of the database images, for an NVM file.
        queries: ``day`` and ``night`` -> list of queries; the challenge has night queries only.
        pairs: pairs to match, for the challenge.
        database: names and cameras of all images, for the challenge.
        database_names: images of the reference model.
        query_names: images of the lists of queries.
    """

    root: Path
    version: str
    protocol: str
    images: Path
    model: Path
    intrinsics: Path | None
    queries: dict[str, Path]
    pairs: Path | None
    database: Path | None
    database_names: list[str]
    query_names: list[str]


WITHOUT_DOWNLOAD = (
    "Without a download: posfeat-hloc miniature-aachen renders a small data set of this "
    "layout, with the true poses in miniature/ground_truth.txt"
)
"""What to try where the data set is not at hand."""


def detect_version(root: Path) -> str:
    """v1.1 where its reference model or its pairs are, else v1."""
    return "v1.1" if _V1_1["model"].find(root) or _V1_1["pairs"].find(root) else "v1"


def open_dataset(root: Path, version: str | None = None, protocol: str = "hloc") -> Dataset:
    """Find the files of a data set and check that all of them and all images that they name are there.

    Args:
        root: of the data set.
        version: ``v1`` or ``v1.1``; found out when None.
        protocol: ``hloc`` or ``challenge``.

    Raises:
        ConfigurationError: something is missing; one line for each file, with what it is for.
        MappingError: a damaged model.
    """
    if not root.is_dir():
        raise ConfigurationError(
            f"{root}: no such folder; ",
            Option("dataset"),
            f" takes the unpacked Aachen Day-Night data set, version 1 or 1.1, from "
            f"visuallocalization.net. {WITHOUT_DOWNLOAD}",
        )
    version = version or detect_version(root)
    roles = _ROLES[version]
    found = {role: roles[role].find(root) for role in _needed(version, protocol, root)}
    missing = [f"  {' or '.join(roles[r].places)}: {roles[r].purpose}" for r, path in found.items() if path is None]
    model = found["model"]
    database_names: list[str] = []
    if model is not None:
        in_nvm = model.suffix == ".nvm"
        database_names = [image.name for image in NvmFile(model).images] if in_nvm else image_names(model.parent)
    lists = {kind: path for kind in ("day", "night") if (path := found.get(kind)) is not None}
    query_names = [query.name for path in lists.values() for query in read_queries(path)]
    names = {*database_names, *query_names}
    if protocol == "challenge" and found["pairs"] is not None:
        names &= {name for pair in read_pairs(found["pairs"]) for name in pair}
    images = found["images"]
    if images is not None:
        missing += _missing_images(images, names)
    if missing:
        raise ConfigurationError(
            f"{root}: not a complete Aachen {version} for the {protocol} protocol, missing:\n"
            + "\n".join(missing)
            + "\nget them from visuallocalization.net (files of the challenge: the benchmark's repository on GitHub). "
            + WITHOUT_DOWNLOAD
        )
    assert images is not None  # nothing is missing
    assert model is not None
    return Dataset(
        root=root,
        version=version,
        protocol=protocol,
        images=images,
        model=model if model.suffix == ".nvm" else model.parent,
        intrinsics=found.get("intrinsics"),
        queries=lists,
        pairs=found.get("pairs"),
        database=found.get("database"),
        database_names=database_names,
        query_names=query_names,
    )


def _needed(version: str, protocol: str, root: Path) -> list[str]:
    """Names of the roles that a protocol needs."""
    model = _ROLES[version]["model"].find(root)
    from_nvm = version == "v1" or (model is not None and model.suffix == ".nvm")
    cameras = ["intrinsics"] if from_nvm else []
    rest = ["day", "night"] if protocol == "hloc" else ["night", "pairs", "database"]
    return ["images", "model", *cameras, *rest]


def _missing_images(folder: Path, names: Iterable[str]) -> list[str]:
    missing = sorted(name for name in names if not (folder / name).is_file())
    lines = [f"  {folder.name}/{name}: photograph" for name in missing[:_LISTED]]
    if len(missing) > _LISTED:
        lines.append(f"  ... and {len(missing) - _LISTED} more photographs in {folder}")
    return lines
