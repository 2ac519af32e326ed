"""Which files of a folder are its photographs, and what was left out: results, masks, thumbnails, other kinds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.formats import EXTENSIONS, RAW, VIDEO

NaturalKey = tuple[tuple[tuple[str | int, ...], ...], str]


def natural_order(name: str) -> NaturalKey:
    """Key to sort names by as a person does, folder by folder: ``frame_2`` before ``frame_10``.

    Digits are compared as numbers, all else as text; where only leading zeros differ, the names as text decide.
    """
    parts = (re.split("([0-9]+)", part) for part in name.split("/"))
    return tuple(tuple(int(t) if i % 2 else t for i, t in enumerate(part)) for part in parts), name


_OF_SYSTEMS = frozenset({"@eadir", "#recycle", "__macosx", "lost+found", "$recycle.bin", "system volume information"})
"""Folders in which file servers and file managers keep thumbnails and what was deleted."""
_RESULTS = ("features.h5", "matches.h5", "queries.jsonl", "summary.json", "report.html", "database.db", "inputs.json")
"""Files that commands here write into their output folders; two of them tell such a folder."""
_MADE_BY_RUNS = frozenset({"report", "export", "logs", "sparse", "video"})
"""Folders that runs make in their output folder."""
_MASKS = frozenset({"mask", "masks"})

_CURES = (
    (RAW, "raw photographs", "develop them to JPEG or TIFF"),
    (VIDEO, "videos", "{video} of sfm takes them"),
    (frozenset({".exr", ".hdr"}), "HDR images", "convert them to TIFF"),
    (
        frozenset({".gif", ".psd", ".xcf", ".pdf", ".svg", ".eps", ".jxl"}),
        "images of other formats",
        "convert them to PNG",
    ),
    (frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz"}), "archives", "unpack them"),
)


@dataclass
class Listing:
    """The images of a folder.

    Attributes:
        names: relative to the folder, with ``/``, sorted.
        left_out: why files were left out -> how many image files that were.
        others: ending in small letters -> how many files that are no images have it.
    """

    names: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def about_others(self) -> str:
        """Which files of other kinds there are, and what helps; empty where there are none."""
        if not self.others:
            return ""
        rest = Counter(self.others)
        parts = []
        for endings, kind, cure in _CURES:
            found = {ending: rest.pop(ending) for ending in endings & rest.keys()}
            if found:
                parts.append(
                    f"{sum(found.values())} {kind} ({' '.join(sorted(found))}): {cure.format(video=Option('video'))}"
                )
        parts += [f"{count} {ending or 'without ending'}" for ending, count in rest.most_common(5)]
        count = self.others.total()
        return f"{count} {'file' if count == 1 else 'files'} of other kinds ignored: {'; '.join(parts)}"

    def about_left_out(self) -> str:
        """How many images were left out, and why; empty where none was."""
        return "; ".join(f"{count} {'image' if count == 1 else 'images'} {why}" for why, count in self.left_out.items())


def survey(folder: Path, leave_out: Mapping[Path, str] | None = None) -> Listing:
    """All images below a folder, and what else is there.

    Left out are hidden files and folders, those of file servers (``@eaDir``), output folders of commands here, folders
    that hold masks of the images, and what the caller names.

    Args:
        folder: searched recursively; links are followed.
        leave_out: folder -> what it holds, for the message.

    Raises:
        ConfigurationError: the folder does not exist, cannot be read, or holds no image.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; ", Option("images"), " takes a folder with photographs")
    listing = Listing()
    avoided = {path.resolve(): what for path, what in (leave_out or {}).items()}
    made_here = folder.resolve() in avoided or is_output(folder)
    listing.names = sorted(_walk(folder, folder, _Walk(listing, avoided, made_here)))
    _leave_masks_out(folder, listing)
    if not listing.names:
        found = "; ".join(filter(None, [listing.about_others(), listing.about_left_out()]))
        endings = " ".join(sorted(EXTENSIONS))
        raise ConfigurationError(
            f"{folder}: no images in this folder ({f'{found}; ' if found else ''}looked for {endings})"
        )
    return listing


def is_output(folder: Path) -> bool:
    """Whether a folder is one that a command here has written its results to."""
    return sum((folder / name).exists() for name in _RESULTS) >= 2


@dataclass(frozen=True)
class _Walk:
    """What a walk through folders collects and avoids."""

    listing: Listing
    avoided: Mapping[Path, str]
    made_here: bool  # the root is an output folder itself


def _walk(folder: Path, root: Path, walk: _Walk, above: tuple[Path, ...] = ()) -> Iterator[str]:
    here = folder.resolve()
    if here in above:  # a link leads back up
        return
    for entry in _entries(folder):
        ending = entry.suffix.lower()
        if entry.is_dir():
            why = _why_not(entry, root, walk)
            if why is None:
                yield from _walk(entry, root, walk, (*above, here))
            elif count := _count_images(entry):
                walk.listing.left_out[why] += count
        elif entry.name.startswith("."):
            walk.listing.left_out.update(["hidden (names with a dot in front)"] if ending in EXTENSIONS else [])
        elif ending in EXTENSIONS:
            yield entry.relative_to(root).as_posix()
        else:
            walk.listing.others[ending] += 1


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _why_not(folder: Path, root: Path, walk: _Walk) -> str | None:
    """Why a folder is left out; None for one that is not."""
    if folder.name.startswith("."):
        return "in hidden folders"
    if folder.name.lower() in _OF_SYSTEMS:
        return f"in {folder.name} (a file server's or file manager's own folder)"
    where = f"in {folder.relative_to(root).as_posix()}"
    if walk.avoided and (what := walk.avoided.get(folder.resolve())) is not None:
        return f"{where} ({what})"
    if is_output(folder) or (folder.parent == root and walk.made_here and folder.name in _MADE_BY_RUNS):
        return f"{where} (results of a run)"
    return None


def _count_images(folder: Path) -> int:
    try:
        return sum(path.suffix.lower() in EXTENSIONS and path.is_file() for path in folder.rglob("*"))
    except OSError:
        return 0


def _leave_masks_out(folder: Path, listing: Listing) -> None:
    """Images in a folder called masks, each named after one elsewhere, and those beside, ``a.mask.png``, are masks."""
    beside = _masks_beside(listing.names)
    if beside:
        listing.left_out["named as masks of images beside them, such as " + min(beside)] += len(beside)
        listing.names = [name for name in listing.names if name not in beside]
    in_masks = {name for name in listing.names if _MASKS & set(name.lower().split("/")[:-1])}
    if not in_masks:
        return
    photographs = [name.rpartition("/")[2] for name in listing.names if name not in in_masks]
    stems = {*photographs, *(name.rpartition(".")[0] for name in photographs)}
    masks = {name for name in in_masks if name.rpartition("/")[2].rpartition(".")[0] in stems}
    if len(masks) < 0.9 * len(in_masks):
        return
    parts = min(masks).split("/")
    where = "/".join(parts[: 1 + next(i for i, part in enumerate(parts) if part.lower() in _MASKS)])
    listing.left_out[f"in {where} (named as masks of the others: {Option('masks', folder / where)})"] += len(masks)
    listing.names = [name for name in listing.names if name not in masks]


def _masks_beside(names: list[str]) -> set[str]:
    """``a.mask.png``, ``a.jpg.mask.png`` and ``a_mask.png`` beside an image ``a.jpg``."""
    stems = {*names, *(name.rpartition(".")[0] for name in names)}
    return {
        name
        for name in names
        if (called := re.fullmatch(r"(.+)[._-]mask\.\w+", name, re.IGNORECASE)) is not None and called[1] in stems
    }
