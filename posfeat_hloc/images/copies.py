"""Folders that hold the same photographs twice, such as ``images`` and ``images_2``, half as large."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.images.formats import open_image

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
        if all(_same(folder / names0[stem], folder / names1[stem], ratio) for stem in picked):
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


def _same(path0: Path, path1: Path, ratio: float) -> bool:
    """Whether two files show the same; in sizes of that ratio, unless it is 0."""
    try:
        (small0, side0), (small1, side1) = _small(path0), _small(path1)
    except (ImageError, OSError, ValueError):
        return False
    return (ratio == 0 or abs(side0 / side1 / ratio - 1) < 0.03) and bool(np.abs(small0 - small1).mean() < SAME)


def _small(path: Path) -> tuple[NDArray[np.float64], int]:
    """A grey image of fixed size and contrast, and the longer side of the file."""
    with open_image(path) as file:
        side = max(file.size)
        if file.format == "JPEG":
            file.draft("L", (4 * _SIDE, 4 * _SIDE))
        grey = np.asarray(file.convert("F" if file.mode[:1] in "IF" else "L").resize((_SIDE, _SIDE)), np.float64)
    return np.asarray((grey - grey.mean()) / max(float(grey.std()), 1e-9) * 64 + 128), side
