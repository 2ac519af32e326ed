"""Which files of a folder are its photographs, what was left out, and whether it holds the same photographs twice."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.images.formats import EXTENSIONS, RAW, VIDEO, open_image

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


FEWEST = 2
"""Names that two folders must share."""
COPIES = frozenset(
    {
        "thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews", "small", "lowres", "resized", "dense",
        "undistorted",
    }
)  # fmt: skip
"""What folders of copies are called, besides ``images_2``."""
SHARED = 0.8
"""Part of the smaller folder's names that is in the other one."""
SAME = 8.0
"""Mean difference of small grey images, of 255, below which they show the same; neighbouring views have 20 to 40."""

_SIDE = 48
_LOOKED_AT = 3


def check_copies(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which photographs are there twice, under the same names in two folders.

    Folders with the same names are usual where several cameras worked side by side. Copies are told by what their
    folders are called and by what some of their images show.

    Args:
        folder: of the images.
        names: relative to it.

    Raises:
        ConfigurationError: two folders hold the same photographs; the message names both.
    """
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        parent, _, last = name.rpartition("/")
        stems[parent][last.rpartition(".")[0].lower()] = name
    for (first, names0), (second, names1) in combinations(sorted(stems.items()), 2):
        if (ratio := _called_copies(first, second)) is None:
            continue
        shared = sorted(names0.keys() & names1.keys())
        if len(shared) < max(FEWEST, SHARED * min(len(names0), len(names1))):
            continue
        picked = [shared[i] for i in np.unique(np.linspace(0, len(shared) - 1, _LOOKED_AT).astype(int))]
        if all(_show_the_same(folder / names0[stem], folder / names1[stem], ratio) for stem in picked):
            raise ConfigurationError(
                f"{folder}: {first or 'the folder itself'} and {second} hold the same {len(shared)} photographs, which "
                f"a model must not hold twice; choose one: ",
                Option("images", folder / first),
                " or ",
                Option("images", folder / second),
            )


def _called_copies(first: str, second: str) -> float | None:
    """How many times larger the images of the first folder are than those of the second, as their names say.

    0 where they are copies of any size, None where the names do not say that they are.
    """
    (base0, scale0), (base1, scale1) = _base_and_scale(first), _base_and_scale(second)
    if base0 == base1 and scale0 != scale1:
        return scale1 / scale0
    called = [COPIES & set(name.lower().replace("_", "/").split("/")) for name in (first, second)]
    return 0.0 if called[0] != called[1] else None


def _base_and_scale(name: str) -> tuple[str, float]:
    """``images_4`` and ``images_4_png`` are ``images``, 4 times smaller."""
    found = re.fullmatch(r"(.*?)[_-](\d{1,2})(?:[_-][a-z]{3,4})?", name, re.IGNORECASE)
    return (found[1], float(found[2])) if found and int(found[2]) else (name, 1.0)


def _show_the_same(path0: Path, path1: Path, ratio: float) -> bool:
    """Whether two files show the same; in sizes of that ratio, unless it is 0."""
    try:
        (small0, side0), (small1, side1) = _small_grey(path0), _small_grey(path1)
    except (ImageError, OSError, ValueError):
        return False
    return (ratio == 0 or abs(side0 / side1 / ratio - 1) < 0.03) and bool(np.abs(small0 - small1).mean() < SAME)


def _small_grey(path: Path) -> tuple[NDArray[np.float64], int]:
    """A grey image of fixed size and contrast, and the longer side of the file."""
    with open_image(path) as file:
        side = max(file.size)
        if file.format == "JPEG":
            file.draft("L", (4 * _SIDE, 4 * _SIDE))
        grey = np.asarray(file.convert("F" if file.mode[:1] in "IF" else "L").resize((_SIDE, _SIDE)), np.float64)
    return np.asarray((grey - grey.mean()) / max(float(grey.std()), 1e-9) * 64 + 128), side
