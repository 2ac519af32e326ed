"""No image of a collection of upright photographs is turned; what was turned is turned back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc import confs
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.orientation import choose_views

DATA = Path(__file__).parents[3] / "shared/data"

UPRIGHT = [
    "strecha/fountain-P11", "strecha/entry-P10", "door", "drone/beach", "scenes/lund", "scenes/saharov",
    "scenes/monstree", "scenes/crazyhorse", "scenes/climbing_wall",
    "scenes/mother_child",
]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the development photographs in ../shared/data"),
]


def turns(images: Path, names: list[str], output: Path) -> dict[str, int]:
    model = confs.extractors["posfeat-small"]["model"]
    return choose_views("auto", model, images, names, output / "orientation.h5", progress=False).rotated


@pytest.mark.parametrize("name", UPRIGHT)
def test_upright_photographs_stay(name: str, tmp_path: Path) -> None:
    images = DATA / name / "images"
    assert turns(images, list_images(images), tmp_path) == {}


def test_turned_photographs_are_turned_back(tmp_path: Path) -> None:
    images = DATA / "strecha/fountain-P11/images"
    held = {}
    for number, name in enumerate(list_images(images)[::2]):
        held[f"{number}.png"] = quarters = (0, 0, 2, 1, 0, 3)[number]
        with Image.open(images / name) as file:
            file.draft("RGB", (800, 600))
            Image.fromarray(np.rot90(np.asarray(file), -quarters)).save(tmp_path / f"{number}.png")
    assert turns(tmp_path, list(held), tmp_path / "out") == {n: -90 * q % 360 for n, q in held.items() if q}
