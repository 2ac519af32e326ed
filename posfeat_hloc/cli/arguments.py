"""From dataclasses of options to a command line: one field is one flag.

``max_size: Annotated[int | None, AtLeast(1), Unit("PX")] = None`` is ``--max-size PX``; its help is the first paragraph
of the text below the field. See :mod:`posfeat_hloc.runtime.options` for what a field may be annotated with.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import textwrap
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.options import AtLeast, Choices, Const, Flag, Group, Reads, Unit, field_types, mark
from posfeat_hloc.runtime.reporter import Terminal

T = TypeVar("T")

_FEW = 6
"""More choices are not listed in the help."""

ADVANCED = "advanced options"
"""Title of the options of a command that are not common."""


def flag(option: Option) -> str:
    """An option as the command line writes it, ``--max-size 3200``; see :func:`posfeat_hloc.errors.wording`."""
    value = "" if option.value is None or option.value is True else f" {option.value}"
    return f"--{option.name.replace('_', '-')}{value}"


def add_options(
    parser: argparse.ArgumentParser,
    *options: type,
    leave_out: Collection[str] = (),
    common: Collection[str] | None = None,
) -> None:
    """Add a flag for each field of some dataclasses.

    Args:
        parser: of a command.
        options: dataclasses; a field with a :class:`Group` begins a group of the help.
        leave_out: fields that the command does not offer, or offers in its own way.
        common: fields that the help lists first; all others are under "advanced". None: all fields are common.
    """
    for kind in options:
        target: argparse._ActionsContainer = parser if common is None else _group(parser, ADVANCED)
        texts = field_texts(kind)
        for field in fields(kind):
            if (title := mark(kind, field.name, Group)) is not None:
                target = _group(parser, title.title if common is None else f"{ADVANCED}: {title.title}")
            if field.name not in leave_out:
                first = common is not None and field.name in common
                _add(parser if first else target, kind, field, texts.get(field.name, ""))


def chosen(args: argparse.Namespace, options: type[T], **others: Any) -> T:
    """The options that a command line asks for; fields without a flag are given by ``others``.

    Raises:
        ConfigurationError: options that do not belong together.
    """
    given = {f.name: getattr(args, f.name) for f in fields(options) if hasattr(args, f.name)}  # type: ignore[arg-type]
    return options(**{name: _frozen(value) for name, value in given.items()} | others)


def words_of(options: Any) -> list[str]:
    """The words of a command line that gives these options; those that are as by default are left out."""
    words = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default or value is None or value == ():
            continue
        named = mark(type(options), field.name, Flag)
        name = named.names[0] if named is not None else f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(name)
        elif field.name == "size":
            words += [name, "x".join(map(str, value))]
        else:
            words += [name, *map(_shown, value if isinstance(value, tuple) else (value,))]
    return words


def add_quiet(parser: argparse._ActionsContainer) -> None:
    """``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def reporter_of(args: argparse.Namespace) -> Terminal:
    """A reporter that prints to the terminal, with bars unless ``--quiet`` is given."""
    return Terminal(progress=not args.quiet)


@cache
def field_texts(options: type) -> dict[str, str]:
    """Field -> the first paragraph of the text below it, in this class or its bases."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(body, ast.ClassDef)
        for statement, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(text, ast.Expr):
                name, value = statement.target, text.value
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[name.id] = _help(value.value)
    return found


def _help(text: str) -> str:
    """The first paragraph, as help is written: a small first letter, no full stop, no quotes around code."""
    text = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split()).replace("``", "")
    text = text if text.endswith("..") else text.removesuffix(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _group(parser: argparse.ArgumentParser, title: str) -> argparse._ActionsContainer:
    return next((g for g in parser._action_groups if g.title == title), None) or parser.add_argument_group(title)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _add(parser: argparse._ActionsContainer, options: type, field: Field[Any], text: str) -> None:
    kind, _ = field_types(options)[field.name]
    of = partial(mark, options, field.name)
    default = field.default if field.default_factory is MISSING else field.default_factory()
    names = named.names if (named := of(Flag)) is not None else (f"--{field.name.replace('_', '-')}",)
    settings: dict[str, Any] = {"dest": field.name, "required": default is MISSING}
    if default is not MISSING:
        settings["default"] = default
        if not any(default is nothing for nothing in (None, False, True, ())) and "(default" not in text:
            text += f"{' ' if text else ''}(default: {_shown(default)})"
    settings["help"] = text.replace("%", "%%")
    if kind is bool:
        if default is True:
            names, settings["action"] = (f"--no-{field.name.replace('_', '-')}",), "store_false"
        else:
            settings["action"] = argparse.BooleanOptionalAction if default is None else "store_true"
        parser.add_argument(*names, **settings)
        return
    if (unit := of(Unit)) is not None:
        settings["metavar"] = unit.name
    if (const := of(Const)) is not None:
        settings |= {"nargs": "?", "const": const.value}
    read = of(Reads)
    if read is None and get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is tuple:  # words, again and again
        kind, *rest = get_args(get_args(kind)[0])
        settings |= {"action": "append", "nargs": 1 + len(rest), "default": [], "metavar": tuple(unit.name.split())}
    elif get_origin(kind) is tuple and read is None:
        kind, *rest = get_args(kind)
        several = "*" if default is None else "+"  # no value differs from no option
        settings["nargs"] = several if rest == [...] else 1 + len(rest)
    choices = of(Choices)
    if get_origin(kind) is Literal or choices is not None:
        settings["choices"] = list(choices.values if choices is not None else get_args(kind))
        if len(settings["choices"]) > _FEW:
            settings["metavar"] = "NAME"
            settings["help"] += "; posfeat-hloc list shows the names"
        settings |= {} if read is None else {"type": reading(read.read)}
    else:
        settings["type"] = _reader(read.read if read is not None else kind, of(AtLeast))
    parser.add_argument(*names, **settings)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def reading(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """For argparse: a reader whose ValueError or ConfigurationError becomes the message."""
    return partial(_read, read)


def positive(text: str) -> int:
    """A positive whole number, for argparse."""
    return _whole_number(1, text)


def _reader(read: Callable[[str], Any], limit: AtLeast | None) -> Callable[[str], Any]:
    """What argparse calls with the text of a value."""
    if limit is not None:
        return partial(_whole_number, limit.least)
    if read in (str, int, float, Path):
        return read
    return reading(read)


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, ConfigurationError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _whole_number(least: int, text: str) -> int:
    if not text.isdigit() or int(text) < least:
        wanted = "a positive whole number" if least else "0 or a positive whole number"
        raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
    return int(text)
