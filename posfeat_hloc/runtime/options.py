"""Options of pipelines: annotations of the fields of option dataclasses, and their checks.

A field is the only place of an option: its name, type and default are the field's, the text below it is its help. The
command line (:mod:`posfeat_hloc.cli.arguments`) and the recorded configuration derive from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from posfeat_hloc.errors import ConfigurationError, Option

OrientationMode = Literal["auto", "exif", "none"]


@dataclass(frozen=True)
class Unit:
    """Name of the value in the help: a unit, ``PX``, or a kind, ``DIR``."""

    name: str


@dataclass(frozen=True)
class AtLeast:
    """Minimum of an integer."""

    least: int


@dataclass(frozen=True)
class Choices:
    """One of these words, where a ``Literal`` cannot name them."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> Choices:
        """The words of a dict or list."""
        return cls(tuple(values))


@dataclass(frozen=True)
class Reads:
    """Parser of the text of a command line; raises ValueError or ConfigurationError with the reason."""

    read: Callable[[str], Any]


@dataclass(frozen=True)
class Const:
    """The value of a flag that is given alone."""

    value: Any


@dataclass(frozen=True)
class Flag:
    """Another name of the option on the command line than the field's, the first of several."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The title of this option and those after it in the help."""

    title: str


@cache
def field_types(options: type) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Field -> its type without ``None``, and what it is annotated with."""
    hints = get_type_hints(options, include_extras=True)
    found = {}
    for field in fields(options):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        hint = hint.__origin__ if marks else hint
        parts = [part for part in get_args(hint) if part is not NoneType]
        optional = NoneType in get_args(hint) and len(parts) == 1
        found[field.name] = (parts[0] if optional else hint, marks)
    return found


def mark(options: type, name: str, kind: type) -> Any:
    """The annotation of a kind that a field has; None without."""
    return next((m for m in field_types(options)[name][1] if isinstance(m, kind)), None)


def check_options(options: Any) -> None:
    """Raises ConfigurationError for a word that is none of the choices, and a number that is too small.

    For ``__post_init__`` of a dataclass of options.
    """
    for name, (kind, marks) in field_types(options.__class__).items():
        value = getattr(options, name)
        if value is None:
            continue
        choices = next((m.values for m in marks if isinstance(m, Choices)), None)
        values = value if isinstance(value, (tuple, list)) else (value,)
        words = get_args(kind)[0] if get_origin(kind) is tuple else kind
        choices = get_args(words) if get_origin(words) is Literal else choices
        if choices and (wrong := [v for v in values if v not in choices]):
            raise ConfigurationError(Option(name), f": {wrong[0]!r} is not one of {', '.join(choices)}")
        least = next((m.least for m in marks if isinstance(m, AtLeast)), None)
        if least is not None and (low := [v for v in values if v < least]):
            raise ConfigurationError(Option(name), f": {low[0]} is less than {least}")


def recorded(options: Any) -> dict[str, Any]:
    """Options as JSON holds them, for the summary of a run."""
    return {field.name: plain(getattr(options, field.name)) for field in fields(options)}


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
