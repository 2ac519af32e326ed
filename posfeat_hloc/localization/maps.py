"""Maps as localization reads them: the files of a folder, and which keypoint of which image is which 3D point."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc import confs, weights
from posfeat_hloc.errors import ConfigurationError, MappingError, Option
from posfeat_hloc.extract_features import configuration
from posfeat_hloc.extractors import Extractor
from posfeat_hloc.sfm.models import find_model, posed_images, read_model
from posfeat_hloc.sfm.summary import recorded_command
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.journal import journal_path

_SAMPLED = 20  # images that stand for the map
_CHECKED = 50  # keypoints of an image whose positions are compared with the feature file


@dataclass(frozen=True)
class MapExcerpt:
    """Part of a map, small enough to travel to another machine.

    Attributes:
        observed: image name -> ``(N,)`` 3D point of each keypoint, -1 for none.
        ids: ``(M,)`` of 3D points, sorted.
        xyz: ``(M, 3)`` their positions.
    """

    observed: dict[str, NDArray[np.int64]]
    ids: NDArray[np.int64]
    xyz: NDArray[np.float64]

    def point_ids(self, name: str) -> NDArray[np.int64]:
        """As :meth:`SparseMap.point_ids`."""
        return self.observed[name]

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """As :meth:`SparseMap.positions`."""
        return self.xyz[np.searchsorted(self.ids, ids)]

    def excerpt(self, images: Sequence[str], ids: NDArray[np.int64]) -> MapExcerpt:
        """The same excerpt."""
        return self


class SparseMap:
    """A model whose points2D are the keypoints of a feature file, in its order.

    Attributes:
        path: folder of the model.
        names: of the images that have a pose, sorted.

    Raises:
        MappingError: no model can be read from the folder, or none of its images has a pose.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = read_model(path)
        self._images = posed_images(self._model)
        self._point_ids: dict[str, NDArray[np.int64]] = {}
        self.names = sorted(self._images)
        if not self.names:
            raise MappingError(f"{path}: no image of this model has a pose")

    def __contains__(self, name: str) -> bool:
        return name in self._images

    def cam_from_world(self, name: str) -> pycolmap.Rigid3d:
        """The pose of an image of the map."""
        return self._images[name].cam_from_world()

    def point_ids(self, name: str) -> NDArray[np.int64]:
        """``(N,)`` the 3D point of each keypoint of an image, -1 for none."""
        if name not in self._point_ids:
            ids = np.array([point.point3D_id for point in self._images[name].points2D], np.uint64)
            signed = ids.astype(np.int64)  # COLMAP's mark for none is 2^64 - 1
            if signed.min(initial=0) < -1:
                raise MappingError(f"{self.path}: damaged, {name!r} sees impossible points; get the model again")
            self._point_ids[name] = signed
        return self._point_ids[name]

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(M, 3)`` of 3D points by their ids."""
        known, places = self._table
        rows = np.minimum(np.searchsorted(known, ids), max(0, len(known) - 1))
        if (lacking := ids[known[rows] != ids] if len(known) else ids).size:
            raise MappingError(
                f"{self.path}: damaged, an image sees the point {lacking[0]}, which is not there; get the model again"
            )
        return places[rows]

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids of all 3D points, ascending, and where they are."""
        points = self._model.points3D
        known = np.fromiter(points, np.int64, len(points))
        places = np.array([point.xyz for point in points.values()], np.float64).reshape(-1, 3)
        order = np.argsort(known)
        return known[order], places[order]

    def excerpt(self, images: Sequence[str], ids: NDArray[np.int64]) -> MapExcerpt:
        """What a query needs that matches some images and, with them, some 3D points."""
        ids = np.unique(ids)
        return MapExcerpt({name: self.point_ids(name) for name in images}, ids, self.positions(ids))

    def check_features(self, features: FeatureStore, names: Sequence[str] | None = None) -> None:
        """Check that the model was made from the features of a file.

        Args:
            features: of the map.
            names: images to look at; when None some, evenly spread.

        Raises:
            MappingError: an image has another number of keypoints in the model, or has them at other places.
            StoreError: an image is not in the file.
        """
        if names is None:
            names = self.names[:: 1 + (len(self.names) - 1) // _SAMPLED]
        for name in names:
            points, keypoints = self._images[name].points2D, features.keypoints(name)
            problem = ""
            if len(points) != len(keypoints):
                problem = f"has {len(points)} keypoints in the model and {len(keypoints)} in {features.path}"
            elif len(points):
                rows = np.linspace(0, len(points) - 1, _CHECKED).astype(int)
                places = np.array([points[int(row)].xy for row in rows]) - 0.5
                distance = float(np.abs(places - keypoints[rows]).max())
                if distance > 1:
                    problem = f"has keypoints in the model that lie {distance:.1f} px from those in {features.path}"
            if problem:
                raise MappingError(
                    f"{self.path}: {name!r} {problem} ({confs.name_of(features.configuration)}): the map was made with "
                    "another feature or other settings; give the feature file that it was made from, or make a map of "
                    "this feature: posfeat-hloc triangulate ",
                    Option("model", self.path),
                    " ",
                    Option("images", "DIR"),
                    " ",
                    Option("output", "DIR"),
                )


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

    def sparse(self) -> SparseMap:
        """The model; raises MappingError where it was made from other features."""
        sparse = SparseMap(self.model)
        with FeatureStore(self.features) as store:
            sparse.check_features(store)
        return sparse

    def matcher(self, name: str | None = None) -> confs.Conf:
        """The conf of a matcher, of that which suits the feature when None; ConfigurationError for an unknown name."""
        name = name or confs.default_matchers.get(self.feature, "NN-mutual")
        if name not in confs.matchers:
            raise ConfigurationError(f"matcher {name!r} does not exist; choose from {', '.join(confs.matchers)}")
        return confs.matchers[name]

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
