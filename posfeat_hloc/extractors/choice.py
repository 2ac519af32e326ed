"""Features by their names: confs, confs with other options, feature files; one, or several side by side."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option


@dataclass(frozen=True)
class FeatureChoice:
    """One feature of a comparison.

    Attributes:
        label: as given; names its row.
        conf: how it is extracted; None for a feature file.
        file: an existing feature file.
    """

    label: str
    conf: confs.Conf | None = None
    file: Path | None = None

    @property
    def stem(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^\w.=+-]+", "_", self.label)


def choose_features(texts: Sequence[str], weights: Sequence[str] = ()) -> list[FeatureChoice]:
    """Features that are compared.

    Args:
        texts: ``NAME``, ``NAME:OPTION=VALUE[:OPTION=VALUE...]`` or ``FILE.h5``.
        weights: ``FEATURE=FILE``.

    Raises:
        ConfigurationError: an unknown feature, the same one twice, a text of another form, or weights of a feature that
            has none or is not compared.
    """
    given = read_weights(weights, [text.split(":")[0] for text in texts])
    try:
        choices = [choose_feature(text, given.get(text.split(":")[0])) for text in texts]
    except ConfigurationError as error:
        raise ConfigurationError(Option("features"), ": ", *error.args) from error
    stems = [choice.stem for choice in choices]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ConfigurationError(Option("features"), f": {twice[0]} is named twice")
    return choices


def read_weights(texts: Sequence[str], features: Sequence[str]) -> dict[str, str]:
    """Read ``FEATURE=FILE``; ConfigurationError for another form, or a feature that is not compared."""
    given: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise ConfigurationError(Option("weights"), f" {text!r}: give FEATURE=FILE")
        if name not in features:
            raise ConfigurationError(Option("weights"), f" {text!r}: {name} is not among the features")
        given[name] = file
    return given


def choose_feature(text: str, weights: str | None = None) -> FeatureChoice:
    """One feature; see :func:`choose_features`."""
    if text.endswith((".h5", ".hdf5")) and text.split(":")[0] not in confs.extractors:  # C:\mine.h5 is a file
        return FeatureChoice(Path(text).stem, file=Path(text))
    name, *options = text.split(":")
    if name not in confs.extractors:
        raise ConfigurationError(
            f"{name!r} is neither a feature nor a .h5 file; features are {', '.join(confs.extractors)}"
        )
    conf = deepcopy(confs.extractors[name])
    for item in options:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigurationError(f"{text!r}: {item!r} is not OPTION=VALUE")
        part = "preprocessing" if key in conf["preprocessing"] else "model"
        conf[part][key] = _value(value)
    return FeatureChoice(text, conf if weights is None else with_weights(conf, name, weights))


def with_weights(conf: confs.Conf, name: str, weights: str) -> confs.Conf:
    """A conf with other weights; ConfigurationError for one without any."""
    if "weights" not in conf["model"]:
        raise ConfigurationError(Option("weights"), f": {name} has no weights")
    return {**conf, "model": {**conf["model"], "weights": weights}}


def extracted_conf(text: str) -> confs.Conf:
    """The conf of a feature that is to be extracted; ConfigurationError for a file, too."""
    choice = choose_feature(text)
    if choice.conf is None:
        raise ConfigurationError(f"{text!r} is a file; name a feature that can be extracted")
    return choice.conf


def _value(text: str) -> Any:
    """Numbers, tuples, True, None as Python writes them; anything else as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
