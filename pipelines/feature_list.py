"""Features as a command line names them, several side by side: confs, confs with other options, feature files."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.argument_types import positive
from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extract_features import extract
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.foreign import check_sizes


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


def add_feature_options(parser: argparse.ArgumentParser, default: Sequence[str] = (confs.DEFAULT_FEATURE,)) -> None:
    """``--features``, ``--weights`` and what else decides which keypoints are matched, and where."""
    add = parser.add_argument
    add("--features", nargs="+", default=list(default), metavar="FEATURE",
        help=f"NAME, one of {', '.join(confs.extractors)}; NAME:OPTION=VALUE[:OPTION=VALUE...] with other options of "
        "the extractor or resize_max; FILE.h5 with features that are there already, ours or hloc's "
        f"(default: {' '.join(default)})")  # fmt: skip
    add("--weights", nargs="+", default=[], metavar="FEATURE=FILE", help="other weights for a feature's network")
    add_matching_options(parser)


def add_matching_options(parser: argparse.ArgumentParser) -> None:
    """``--top-k``, ``--device`` and ``--quiet``."""
    add = parser.add_argument
    add("--top-k", type=positive, metavar="K", help="match the K keypoints with the highest scores (default: all)")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--quiet", action="store_true", help="no progress bars")


def choose_features(texts: Sequence[str], weights: Sequence[str] = ()) -> list[FeatureChoice]:
    """Read ``--features`` and ``--weights FEATURE=FILE``.

    Raises:
        ConfigurationError: an unknown feature, the same one twice, a text of another form, or weights of a feature that
            has none or is not compared.
    """
    given = read_weights(weights, [text.split(":")[0] for text in texts])
    choices = [_choose(text, given) for text in texts]
    stems = [choice.stem for choice in choices]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ConfigurationError(f"--features: {twice[0]} is named twice")
    return choices


def read_weights(texts: Sequence[str], features: Sequence[str]) -> dict[str, str]:
    """Read ``FEATURE=FILE``; ConfigurationError for another form, or a feature that is not compared."""
    given: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise ConfigurationError(f"--weights {text!r}: give FEATURE=FILE")
        if name not in features:
            raise ConfigurationError(f"--weights {text!r}: {name} is not among --features")
        given[name] = file
    return given


def _choose(text: str, weights: dict[str, str]) -> FeatureChoice:
    if text.endswith((".h5", ".hdf5")) and text.split(":")[0] not in confs.extractors:  # C:\mine.h5 is a file
        return FeatureChoice(Path(text).stem, file=Path(text))
    name, *options = text.split(":")
    if name not in confs.extractors:
        raise ConfigurationError(
            f"--features: {name!r} is neither a feature nor a .h5 file; features are {', '.join(confs.extractors)}"
        )
    conf = deepcopy(confs.extractors[name])
    if name in weights:
        if "weights" not in conf["model"]:
            raise ConfigurationError(f"--weights: {name} has no weights")
        conf["model"]["weights"] = weights[name]
    for item in options:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigurationError(f"--features {text!r}: {item!r} is not OPTION=VALUE")
        part = "preprocessing" if key in conf["preprocessing"] else "model"
        conf[part][key] = _value(value)
    return FeatureChoice(text, conf)


def feature_file(
    choice: FeatureChoice, images: Path, names: Sequence[str], folder: Path, device: str, progress: bool
) -> tuple[Path, dict[str, str]]:
    """The file with the features of some images, extracted where they are not there yet.

    Returns:
        the path, and image name -> why it has no features.
    """
    if choice.conf is None:
        assert choice.file is not None
        with FeatureStore(choice.file) as store:
            store.require(names, f"of {len(names)} images are missing")
            check_sizes(store, images, names)
        return choice.file, {}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{choice.stem}.h5"
    report = extract(choice.conf, images, path, names, device, progress=progress)
    return path, report.skipped


def _value(text: str) -> Any:
    """Numbers, tuples, True, None as Python writes them; anything else as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
