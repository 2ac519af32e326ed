"""Any option of a loss, by its name and a text: ``detection.sides=one``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from posfeat_hloc.confs import RENAMED, current_names
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.training.stages import LossOptions


def changed(loss: LossOptions, texts: Sequence[str]) -> LossOptions:
    """The options of the losses with others in place of some.

    Args:
        loss: what holds otherwise.
        texts: ``max_distance=0.5``, ``detection.sides=one`` and their like.

    Raises:
        ConfigurationError: another form, a name that does not exist, or a value of another type.
    """
    for text in texts:
        name, equals, value = text.partition("=")
        name = ".".join(RENAMED.get(part, part) for part in name.split("."))
        if not equals or name not in dict(_names(loss)):
            known = ", ".join(known for known, _ in _names(LossOptions()))
            raise ConfigurationError(Option("set"), f" {text!r}: write NAME=VALUE, NAME one of {known}")
        loss = _with(loss, name.split("."), current_names({name.rpartition(".")[2]: _value(value)}).popitem()[1], text)
    return loss


def _names(options: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """All options with their values, those of options within options after a dot."""
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _names(value, f"{before}{field.name}.")
        else:
            yield before + field.name, value


def _with(options: Any, path: list[str], value: Any, text: str) -> Any:
    old = getattr(options, path[0])
    if len(path) > 1:
        return replace(options, **{path[0]: _with(old, path[1:], value, text)})
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(old) is not type(value):
        raise ConfigurationError(Option("set"), f" {text!r}: {path[0]} is {old!r}, so the value must be of this kind")
    return replace(options, **{path[0]: value})


def _value(text: str) -> Any:
    """Numbers and True as Python writes them, ``inf``, and texts."""
    if text == "inf":
        return float(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
