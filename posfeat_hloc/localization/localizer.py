"""Localize images in memory against a map that is loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
import torch
from numpy.typing import NDArray

from posfeat_hloc import extractors, matchers, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extract_features import extract_shown
from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.decoding import DecodedImage, read_image
from posfeat_hloc.images.loader import check_pixels, picture_tensor
from posfeat_hloc.localization.maps import SparseMap, open_map
from posfeat_hloc.localization.options import PoseOptions
from posfeat_hloc.localization.pose_problem import PoseProblem
from posfeat_hloc.localization.queries import Query, guess_camera, queries_of_folder
from posfeat_hloc.localization.results import Localized
from posfeat_hloc.localization.rotation_retry import TURNS, better, is_certain
from posfeat_hloc.match_features import read_descriptors
from posfeat_hloc.matchers.descriptor_cache import CACHE_BYTES, DescriptorCache
from posfeat_hloc.orientation.choice import stands_every_turn
from posfeat_hloc.orientation.looks import has_these_weights
from posfeat_hloc.orientation.queries import Upright
from posfeat_hloc.retrieval.describe import create
from posfeat_hloc.runtime.computation import choose_device
from posfeat_hloc.runtime.progress import timed
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore


class MapRetrieval:
    """Global descriptors of a map in memory, and the extractor for further images.

    Args:
        path: written by ``describe_images`` or by ``SfmOptions(pairs="retrieval")``.
        names: images of the map; those without a descriptor are never found.
        device: a torch device.

    Raises:
        ConfigurationError: another program wrote the file, or its method has other weights here.
        StoreError: the file is missing or damaged, or describes none of the images.
    """

    def __init__(self, path: Path, names: Sequence[str], device: str = "cpu") -> None:
        with GlobalDescriptorStore(path) as store:
            recorded, words = store.configuration, store.vocabulary
            self.names = [name for name in names if name in store]
            self._descriptors = store.read(self.names)
        if recorded is None or not self.names:
            raise ConfigurationError(
                f"{path}: was not written by posfeat_hloc or describes no image of the map; describe the map's images"
            )
        self._preprocessing = recorded["preprocessing"]
        known = weights.bundled_name(recorded["weights"])
        self._describer = create(recorded["model"] | ({"weights": known} if known else {}), device)
        if self._describer.weights_sha256 != recorded["weights"]:
            raise ConfigurationError(f"{path}: was made with other weights; describe the map again")
        self._describer.vocabulary = None if words is None else torch.from_numpy(words)

    def nearest(self, pixels: NDArray[np.uint8], count: int) -> list[str]:
        """The ``count`` most similar images of the map, best first; none for an image too small to describe.

        Args:
            pixels: ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8.
            count: of images.
        """
        found = self._describer(picture_tensor(pixels, self._preprocessing, self._describer.grayscale))
        if found is None:
            return []
        products = self._descriptors @ found.numpy().astype(np.float16).astype(np.float32)  # as files store them
        return [self.names[row] for row in np.argsort(-products, kind="stable")[:count]]


_SHOWN = {1: 0, 6: 90, 3: 180, 8: 270}  # orientation of an image without mirrors -> degrees clockwise


@dataclass(frozen=True)
class LocalizedImage:
    """The answer for one image.

    Attributes:
        result: its pose, or the reason why there is none.
        seconds: stage (extract, retrieve, match, pose) -> time.
    """

    result: Localized
    seconds: dict[str, float]


class Localizer:
    """A map, its features and an extractor, held in memory; nothing is ever written.

    Usable as a context manager; not from several threads at once.

    Args:
        folder: output folder of a reconstruction, or a COLMAP model.
        features: of the map; ``features.h5`` in ``folder`` when None.
        feature: name of the features' conf, where the file does not record it.
        weights_file: of the map, where they cannot be told from it.
        matcher: name in ``confs.matchers``; the one that suits the feature when None.
        device: ``auto`` takes a GPU when there is one.
        options: see :class:`PoseOptions`.
        neighbors: most similar map images that an image is matched with, where the map folder has their global
            descriptors (``SfmOptions(pairs="retrieval")``); with all map images where it has none.
        try_rotations: turn an image by 90, 180 and 270 degrees while it has few inliers.
        orientation: ``auto`` turns images that lie otherwise than the map's, where the map folder has their small
            features (made by default, ``SfmOptions(orientation="auto")``); any other word does not.

    Raises:
        ConfigurationError: see :func:`open_map`.
        MappingError: the model cannot be read, or was made from other features.
        StoreError, WeightsError: a file is missing or damaged.
    """

    def __init__(
        self,
        folder: Path,
        features: Path | None = None,
        feature: str | None = None,
        weights_file: str | None = None,
        matcher: str | None = None,
        device: str = "auto",
        options: PoseOptions | None = None,
        neighbors: int = 20,
        try_rotations: bool = False,
        orientation: str = "auto",
    ) -> None:
        parts = open_map(Path(folder), features, feature, weights_file)
        self.options = options or PoseOptions()
        self._conf = parts.conf
        self._device = choose_device(device)
        self._extractor = extractors.create(parts.conf["model"], self._device)
        parts.check_extractor(self._extractor)
        self._matcher = matchers.create(parts.matcher(matcher)["model"])
        self.map = SparseMap(parts.model)
        self.neighbors = neighbors
        self.try_rotations = try_rotations
        described = next(iter(parts.descriptors.values()), None)
        self._retrieval = None if described is None else MapRetrieval(described, self.map.names, self._device)
        small = None if stands_every_turn(parts.conf["model"]) or orientation != "auto" else parts.orientation
        votes = small is not None and has_these_weights(small)
        self._upright = Upright(small, self.map.names, self._device) if small is not None and votes else None
        self._store = FeatureStore(parts.features)
        self._places = matchers.trained_for(self._matcher) is not None
        self._descriptors: DescriptorCache[str] = DescriptorCache(
            lambda other: read_descriptors(self._store, other, self._places), CACHE_BYTES
        )
        try:
            matchers.check_suits(matchers.trained_for(self._matcher), self._store.configuration, self._store.path)
            self.map.check_features(self._store)
        except BaseException:
            self.close()
            raise

    def localize(
        self,
        image: NDArray[np.uint8] | str | Path,
        camera: pycolmap.Camera | None = None,
        focal_length: float | None = None,
        name: str | None = None,
    ) -> LocalizedImage:
        """Find the pose of an image.

        Args:
            image: ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8; or the path of a file, which is turned upright for
                extraction as its EXIF tag says, while camera and pose are those of the pixels as stored.
            camera: known intrinsics in COLMAP's convention.
            focal_length: without a camera: a guess in pixels, which is refined; when None, too, that of a file's EXIF
                tags, or estimated.
            name: of the image in the answer; that of the file, or ``image``, when None.

        Raises:
            ImageError: not such an array, or a file that cannot be decoded.
            ConfigurationError: the camera has another size than the image.
        """
        seconds: dict[str, float] = {}
        if isinstance(image, (str, Path)):
            path = Path(image)
            picture, name = read_image(path), name or path.name
            if camera is None and focal_length is None:
                (guess,) = queries_of_folder(path.parent, {path.name: picture.stored_size})
                if guess.camera.has_prior_focal_length:
                    focal_length = guess.camera.mean_focal_length()
        else:
            check_pixels(image)
            picture = DecodedImage(image)
        size = picture.stored_size
        if camera is not None and (camera.width, camera.height) != size:
            raise ConfigurationError(
                f"the camera is for {camera.width}x{camera.height} pixels, the image has {size[0]}x{size[1]}"
            )
        query = Query(name or "image", camera or guess_camera(size, focal_length), calibrated=camera is not None)
        view = UPRIGHT
        if self._upright is not None:
            with timed(seconds, "orient"):
                view = self._upright.view(picture)
        result = self._attempt(query, picture, seconds, view)
        for quarters in TURNS if self.try_rotations else ():
            if is_certain(result):
                break
            found = self._attempt(query, picture.rot90(quarters), seconds)
            result = better(result, replace(found, rotation=90 * quarters))
        return LocalizedImage(result, seconds)

    def _attempt(
        self, query: Query, picture: DecodedImage, seconds: dict[str, float], view: View = UPRIGHT
    ) -> Localized:
        """The pose of a query from its image as it is shown here."""
        with timed(seconds, "extract"):
            features = extract_shown(self._extractor, picture, self._conf["preprocessing"], view)
        with timed(seconds, "retrieve"):
            names = self.map.names
            if self._retrieval is not None:
                names = self._retrieval.nearest(picture.rot90(view.rotation // 90).pixels, self.neighbors)
        with timed(seconds, "match"):
            descriptors: NDArray[np.floating] = features.descriptors.astype(np.float16)  # as files store them
            if self._places:
                turn = _SHOWN.get(picture.orientation, 0) + view.rotation
                descriptors = matchers.with_places(descriptors, features.keypoints, picture.stored_size, turn)
            found = {
                other: matchers.match_batch(self._matcher, [(descriptors, self._descriptors[other])], self._device)[0]
                for other in names
            }
        with timed(seconds, "pose"):
            solved = PoseProblem.of(query, features.keypoints, found, self.map).solve(self.options)
            return replace(solved, rotation=view.rotation)

    def close(self) -> None:
        """Close the map's files."""
        self._store.close()
        if self._upright is not None:
            self._upright.close()

    def __enter__(self) -> Localizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
