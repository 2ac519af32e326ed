"""A map on disk: its model, its feature file, and the configuration the features were made with."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from posfeat_hloc import confs, weights
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.extract_features import configuration
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.sfm.models import find_model
from posfeat_hloc.sfm.summary import recorded_command
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.journal import journal_path


@dataclass(frozen=True)
class MapFolder:
    """What a map consists of.

    Attributes:
        model: folder of the COLMAP model.
        features: HDF5 file it was made from.
        feature: name of the features' conf.
        conf: with which the queries are extracted.
        images: folder of the map's photographs, where it is known.
        descriptors: conf of ``confs.retrieval`` -> file of the photographs' global descriptors, where there is one.
        orientation: file of small features that tell how queries are held, where there is one.
    """

    model: Path
    features: Path
    feature: str
    conf: confs.Conf
    images: Path | None
    descriptors: dict[str, Path]
    orientation: Path | None = None

    def check_extractor(self, extractor: Extractor) -> None:
        """Raises ConfigurationError where queries would get other weights than the map."""
        with FeatureStore(self.features) as store:
            recorded = store.configuration
        if recorded is None:
            return
        found = configuration(self.conf, extractor)["weights"]
        if found != recorded.get("weights"):
            raise ConfigurationError(
                f"{self.features}: the map's features ({self.feature}) were made with weights of SHA-256 "
                f"{str(recorded.get('weights'))[:12]}, and the present ones have {found[:12]}; give the map's weights"
            )


def open_map(
    folder: Path, features: Path | None = None, feature: str | None = None, weights_file: str | None = None
) -> MapFolder:
    """Find the parts of a map.

    Args:
        folder: output folder of a reconstruction, or a COLMAP model.
        features: of the map; ``features.h5`` in ``folder`` when None.
        feature: name of the features' conf, for files that do not record it (hloc's).
        weights_file: name or file of the map's weights, where they cannot be told from the map.

    Raises:
        ConfigurationError: no map there, a feature that is unknown, or another one than the map was made with.
        StoreError: the feature file is missing or damaged.
    """
    model = find_model(folder)
    if model is None:
        raise ConfigurationError(f"{folder}: no COLMAP model here or in sparse/0; a map is an output of sfm")
    path = features if features is not None else folder / "features.h5"
    if features is None and not path.is_file():
        raise ConfigurationError(
            f"{path}: no such file; give the features that the map was made from. A model of other features, such as "
            "COLMAP's SIFT, gets ours: posfeat-hloc triangulate ",
            Option("model", folder),
            " ",
            Option("images", "DIR"),
            " ",
            Option("output", "DIR"),
        )
    if journal_path(path).exists():  # reading would complete the interrupted write, and a map is never written to
        raise ConfigurationError(f"{path}: the run that wrote it was interrupted; run it to its end first")
    command = recorded_command(folder)
    with FeatureStore(path) as store:
        recorded = store.configuration
    name, conf = _conf(path, recorded, feature)
    if "weights" in conf["model"] or (recorded or {}).get("weights"):
        conf["model"]["weights"] = (
            weights_file
            or weights.bundled_name((recorded or {}).get("weights"))
            or command.get("weights")
            or conf["model"].get("weights")
        )
    elif weights_file is not None:
        raise ConfigurationError(f"{name} has no weights, but {weights_file} was given")
    images = command.get("images")
    described = {key: folder / f"{value['output']}.h5" for key, value in confs.retrieval.items()}
    small = folder / "orientation.h5"
    return MapFolder(
        model,
        path,
        name,
        conf,
        Path(images) if images else None,
        {key: file for key, file in described.items() if file.is_file() and not journal_path(file).exists()},
        small if small.is_file() else None,
    )


def _conf(path: Path, recorded: confs.Conf | None, feature: str | None) -> tuple[str, confs.Conf]:
    """Name and conf of the features in a file."""
    if feature is not None and feature not in confs.extractors:
        raise ConfigurationError(f"feature {feature!r} does not exist; choose from {', '.join(confs.extractors)}")
    if recorded is None:
        if feature is None:
            raise ConfigurationError(f"{path}: does not record which feature it holds; name the feature")
        return feature, deepcopy(confs.extractors[feature])
    name = confs.name_of(recorded)
    if feature is not None and feature != name:
        raise ConfigurationError(f"{path}: the map was made with {name}, not with {feature}; leave the feature out")
    conf = deepcopy(confs.extractors.get(name, {"output": f"feats-{name}", "model": {}, "preprocessing": {}}))
    unrecorded = {key: value for key, value in conf["model"].items() if key in confs.EXECUTION}
    conf["model"] = unrecorded | recorded["model"]  # an option that the map's features were made without keeps out
    conf["preprocessing"] = dict(recorded["preprocessing"])
    return name, conf
