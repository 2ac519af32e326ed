"""Exceptions of this package. Every message names the file, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a pipeline, as an error, a note or a remedy names it.

    As text it is ``max_size=3200``, and what :func:`wording` says in its block: a command line writes its flags.

    Attributes:
        name: of the field in the pipeline's options, or of the function's parameter.
        value: to give it; None where only the option is named.
        condition: of the user's knowledge, under which the value is right; empty for always.
    """

    name: str
    value: Any = None
    condition: str = ""

    def __str__(self) -> str:
        return _wording.get()(self) + (f" ({self.condition})" if self.condition else "")


def _in_python(option: Option) -> str:
    return option.name if option.value is None else f"{option.name}={option.value}"


_wording: ContextVar[Callable[[Option], str]] = ContextVar("wording", default=_in_python)


@contextmanager
def wording(word: Callable[[Option], str]) -> Iterator[None]:
    """Let options be written otherwise in the block, as the flags of a command line; without their conditions."""
    token = _wording.set(word)
    try:
        yield
    finally:
        _wording.reset(token)


class PosfeatError(Exception):
    """Base of all errors raised on purpose by this package; commands print it without a traceback.

    Its arguments are the parts of one message: texts and :class:`Option`.
    """

    def __str__(self) -> str:
        return "".join(map(str, self.args))

    @property
    def options(self) -> tuple[Option, ...]:
        """Options that the message names."""
        return tuple(part for part in self.args if isinstance(part, Option))


class ImageError(PosfeatError):
    """An image file cannot be used; the pipelines skip it and list it in their summary."""


class StoreError(PosfeatError):
    """An HDF5 file is damaged, not ours, or belongs to another configuration."""


class WeightsError(PosfeatError):
    """Weights are missing, altered or of the wrong shape."""


class ConfigurationError(PosfeatError):
    """An option, a configuration name or a combination of them is not valid."""


class MappingError(PosfeatError):
    """COLMAP failed, or its input could not be prepared."""


class DataError(PosfeatError):
    """Training data is missing, malformed, or leaves nothing to train on."""


class TrainingError(PosfeatError):
    """A training step gave no usable gradient."""


class ClusterError(PosfeatError):
    """Ray is missing, cannot be reached, or lost its machines, or they have other versions of this package."""


class HlocError(PosfeatError):
    """hloc is missing, cannot be imported, or has an unknown structure."""
