"""From a dataclass of options to flags, their help and the values that are read."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from posfeat_hloc.cli.arguments import add_options, chosen, field_texts, flag
from posfeat_hloc.errors import ConfigurationError, Option, wording
from posfeat_hloc.runtime.options import AtLeast, Choices, Const, Flag, Group, Reads, Unit, check_options


def even(text: str) -> int:
    if int(text) % 2:
        raise ValueError(f"{text} is odd")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 0
    """Of all random choices."""


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    images: Annotated[Path, Unit("DIR"), Group("input")]
    """Folder of photographs, 100 % of them.

    This paragraph is for readers of the code.
    """
    how: Literal["fast", "exact"] = "fast"
    word: Annotated[str | None, Choices(("a", "b"))] = None
    """COLMAP's word (default: the folder's)"""
    count: Annotated[int | None, AtLeast(1), Unit("N"), Group("numbers")] = None
    """How many"""
    share: float = 0.25
    """Of ``all``"""
    size: tuple[int, int] = (640, 480)
    names: tuple[str, ...] = ()
    number: Annotated[int, Reads(even)] = 2
    coarse: Annotated[int, AtLeast(0), Const(7)] = 0
    half: Annotated[bool, Flag(("--as_half", "--half"))] = False
    loops: bool | None = None

    def __post_init__(self) -> None:
        check_options(self)


def read(*given: str) -> Options:
    parser = argparse.ArgumentParser()
    add_options(parser, Options)
    return chosen(parser.parse_args(["--images", "photos", *given]), Options)


def test_defaults_are_those_of_the_fields() -> None:
    assert read() == Options(images=Path("photos"))


def test_values_have_the_types_of_the_fields() -> None:
    found = read(
        "--how", "exact", "--word", "b", "--count", "3", "--share", "0.5", "--size", "320", "240", "--names", "x", "y",
        "--number", "4", "--coarse", "--half", "--no-loops", "--seed", "5",
    )  # fmt: skip
    assert found == Options(
        images=Path("photos"), how="exact", word="b", count=3, share=0.5, size=(320, 240), names=("x", "y"), number=4,
        coarse=7, half=True, loops=False, seed=5,
    )  # fmt: skip
    assert read("--coarse", "9").coarse == 9
    assert read("--as_half", "--loops") == Options(images=Path("photos"), half=True, loops=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--count", "0"], "argument --count: 0 is not a positive whole number"),
        (["--count", "x"], "x is not a positive whole number"),
        (["--coarse", "-1"], "argument --coarse: "),
        (["--number", "3"], "argument --number: 3 is odd"),
        (["--how", "slow"], "argument --how: invalid choice: 'slow'"),
        (["--word", "c"], "argument --word: invalid choice: 'c'"),
    ],
)
def test_what_is_wrong_is_said(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(*given)
    assert message in capsys.readouterr().err


def test_the_help_is_the_text_below_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    parser = argparse.ArgumentParser()
    add_options(parser, Options)
    lines = [" ".join(line.split()) for line in parser.format_help().splitlines()]
    for line in (
        "--images DIR folder of photographs, 100 % of them",
        "--seed SEED of all random choices (default: 0)",
        "--how {fast,exact} (default: fast)",
        "--word {a,b} COLMAP's word (default: the folder's)",
        "--share SHARE of all (default: 0.25)",
        "input:",
        "numbers:",
    ):
        assert line in lines
    assert lines.index("input:") < lines.index("--word {a,b} COLMAP's word (default: the folder's)")
    assert field_texts(Options)["count"] == "how many"


def test_options_in_a_message_are_flags_on_the_command_line() -> None:
    error = ConfigurationError("too few; ", Option("max_size", 640, "if it fits"), " or ", Option("gps", True))
    assert str(error) == "too few; max_size=640 (if it fits) or gps=True"
    assert [option.name for option in error.options] == ["max_size", "gps"]
    with wording(flag):
        assert str(error) == "too few; --max-size 640 (if it fits) or --gps"


def test_a_library_call_gets_the_same_checks() -> None:
    with pytest.raises(ConfigurationError, match="how: 'slow' is not one of fast, exact"):
        Options(images=Path("x"), how="slow")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="count: 0 is less than 1"):
        Options(images=Path("x"), count=0)
    with pytest.raises(ConfigurationError, match="word: 'c' is not one of a, b"):
        Options(images=Path("x"), word="c")
