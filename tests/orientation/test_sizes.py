"""Second pictures of images that show larger what others show smaller, at the sizes that features are extracted at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.orientation.election import Election
from posfeat_hloc.orientation.looks import Looks
from posfeat_hloc.orientation.synchronisation import Edge
from posfeat_hloc.orientation.votes import Vote

SIZES = {"a": (1600, 1200), "b": (1600, 1200), "c": (400, 300), "d": (3200, 2400)}


class SizesOnly(Looks):
    """Looks at files that need not be there."""

    def size(self, name: str) -> tuple[int, int]:
        return SIZES[name]


def second(pairs: dict[tuple[str, str], float], resize_max: int | None) -> dict[str, float]:
    """Sizes, for pairs of names with the scale between their small pictures."""
    election = Election.of(SizesOnly(Path("images"), Path("looks")), [], resize_max)
    election.names = sorted({name for pair in pairs for name in pair})
    election.groups = type(election.groups)(election.names)
    election.edges = [Edge(*pair, Vote(100.0, 0.0, scale)) for pair, scale in pairs.items()]
    return election.second_sizes()


@pytest.mark.parametrize(
    ("pairs", "resize_max", "expected"),
    [
        ({("a", "b"): 1.0}, 1600, {}),
        ({("a", "b"): 2.1}, 1600, {"b": 0.5}),
        ({("b", "a"): 0.5}, 1600, {"b": 0.5}),
        ({("a", "c"): 1.0}, 1600, {"a": 0.25}),  # a file of a quarter of the size
        ({("a", "c"): 1.0}, 400, {}),  # all are extracted in one size
        ({("a", "c"): 4.0}, 1600, {}),  # what is small in the file, was taken from nearer
        ({("a", "d"): 1.0}, 1600, {}),
        ({("a", "d"): 1.0}, None, {"d": 0.5}),
        ({("a", "c"): 0.01}, 1600, {"a": 0.25}),
        ({("a", "b"): 2.1, ("a", "d"): 1.4, ("d", "b"): 1.5}, 1600, {}),  # sizes in between connect the two
    ],
)
def test_second_sizes(pairs: dict[tuple[str, str], float], resize_max: int | None, expected: dict[str, float]) -> None:
    assert second(pairs, resize_max) == expected


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (48, 64), np.uint8)).save(tmp_path / "a.png")
    looks = Looks(tmp_path, tmp_path / "looks", device="cpu", progress=False)
    assert looks.look(["a.png"]) == ["a.png"]
    assert looks.size("a.png") == (64, 48)
