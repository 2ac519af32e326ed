"""Small versions of images, in several rotations and sizes: extracted on demand, kept until the end of the vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc import confs, extractors
from posfeat_hloc.extract_features import ExtractionReport, extract
from posfeat_hloc.extractors.extraction import ExtractionExecutor
from posfeat_hloc.features import View
from posfeat_hloc.images.decoding import read_orientation
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.orientation.votes import SmallFeatures
from posfeat_hloc.stores import FeatureStore

SIZE = 400
"""Longest side of a small picture."""

KEYPOINTS = 512
"""Of a small picture."""

IN_MEMORY = 5000
"""Small images whose features are kept in memory, 130 KB each."""


@dataclass(frozen=True, order=True)
class Look:
    """Version of a small image: rotated by degrees clockwise, in a size relative to the usual one."""

    turn: int = 0
    size: float = 1.0

    def __str__(self) -> str:
        return f"turned-{self.turn}" + ("" if self.size == 1 else f"-size-{self.size:g}")


AS_IT_IS = Look()


def small_conf(size: float = 1.0) -> dict[str, Any]:
    """The default feature, for small images."""
    conf = deepcopy(confs.extractors[confs.DEFAULT_FEATURE])
    conf["preprocessing"]["resize_max"] = round(SIZE * size)
    conf["model"] = extractors.with_limit(conf["model"], KEYPOINTS)
    return conf


@lru_cache(maxsize=1)
def small_weights() -> str:
    """Hash of the weights that small images are described with."""
    return extractors.create(small_conf()["model"]).weights_sha256


def has_these_weights(path: Path) -> bool:
    """Whether a file of small features was made with the weights that are here now; others cannot be compared."""
    with FeatureStore(path) as store:
        return (store.configuration or {}).get("weights") == small_weights()


@dataclass
class Looks:
    """Small features of the images of a folder.

    Attributes:
        images: the folder.
        folder: of the feature files, one for each look.
        views: turns that images have had so far; looks are turned beyond them.
        device, masks, exif, cluster, progress: see :func:`extract`.
        report: what became of the images as they are.
        count: small images looked at.
    """

    images: Path
    folder: Path
    views: Mapping[str, View] = field(default_factory=dict)
    device: str = "auto"
    masks: Path | None = None
    exif: bool = True
    cluster: ExtractionExecutor | None = None
    progress: bool = True
    report: ExtractionReport = field(default_factory=ExtractionReport)
    count: int = 0
    _seen: set[tuple[str, Look]] = field(default_factory=set)
    _kept: dict[tuple[str, Look], SmallFeatures] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    _frames: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def look(self, names: Sequence[str], look: Look = AS_IT_IS) -> list[str]:
        """Extract small versions of images; returns those that can be read. Existing ones are kept."""
        todo = [name for name in names if (name, look) not in self._seen]
        if todo:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.path(look)
            turned = {name: View((self.turn(name) + look.turn) % 360) for name in todo}
            masked = self.masks is not None and any(Masks(self.masks).path(name) for name in todo)
            report = extract(
                small_conf(look.size), self.images, path, todo, self.device, progress=self.progress, title="orient",
                masks=self.masks if masked else None,
                cluster=self.cluster, views=turned, exif=self.exif,
            )  # fmt: skip
            self.count += len(report.names)
            if look == AS_IT_IS:
                self.report = report
            self._seen.update((name, look) for name in report.names)
            self._read(report.names, look)
        return [name for name in names if (name, look) in self._seen]

    def features(self, name: str, look: Look = AS_IT_IS) -> SmallFeatures:
        """Of an image that was looked at so."""
        if (name, look) not in self._kept:
            self._read([name], look)
        return self._kept[name, look]

    def _read(self, names: Sequence[str], look: Look) -> None:
        with FeatureStore(self.path(look)) as store:
            for name in names[-IN_MEMORY:]:
                self._kept[name, look] = read_small(store, name, look.size)
        while len(self._kept) > IN_MEMORY:
            del self._kept[next(iter(self._kept))]

    def path(self, look: Look) -> Path:
        """The feature file of a look."""
        return self.folder / f"{look}-{small_weights()[:8]}.h5"

    def frame(self, name: str) -> NDArray[np.float64]:
        """``(2, 2)``: vectors in the file's pixels to those of the image as it is, before any look."""
        if name not in self._frames:
            orientation = read_orientation(self.images / name) if self.exif else 1
            self._frames[name] = clockwise(self.turn(name)) @ upright_frame(orientation)
        return self._frames[name]

    def size(self, name: str) -> tuple[int, int]:
        """Width and height as stored of an image that was looked at."""
        if name not in self._sizes:
            with FeatureStore(self.path(AS_IT_IS)) as store:
                self._sizes |= {other: store.image_size(other) for other in store.names()}
        return self._sizes[name]

    def stored(self, names: Sequence[str], look: Look) -> dict[str, SmallFeatures]:
        """Small features of those images that can be read."""
        return {name: self.features(name, look) for name in self.look(names, look)}

    def says_upright(self, name: str) -> bool:
        """Whether an EXIF tag gives the orientation of the image."""
        return self.exif and read_orientation(self.images / name, default=0) != 0

    def turn(self, name: str) -> int:
        """Degrees clockwise of the rotation of an image by its EXIF tag."""
        return self.views[name].rotation if name in self.views else 0


def read_small(store: FeatureStore, name: str, size: float = 1.0) -> SmallFeatures:
    """Small features of an image in a file, with points in pixels of the small image."""
    width, height = store.image_size(name)
    scale = min(1.0, SIZE * size / max(width, height))
    points = store.keypoints(name).astype(np.float64) * scale
    return SmallFeatures(points, store.descriptors(name), (width * scale, height * scale))


def write_frame(store: FeatureStore, name: str, frame: NDArray[np.float64]) -> None:
    """Store the version of the small image with its features; see :func:`read_frame`."""
    store.file[name].attrs["frame"] = frame


def read_frame(store: FeatureStore, name: str) -> NDArray[np.float64]:
    """``(2, 2)``: vectors in pixels of the image as stored to pixels of the version used."""
    found = store.file[name].attrs.get("frame")
    return np.eye(2) if found is None else np.asarray(found, np.float64)


def clockwise(degrees: float) -> NDArray[np.float64]:
    """``(2, 2)`` rotation of vectors in pixels, y downwards."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def upright_frame(orientation: int) -> NDArray[np.float64]:
    """``(2, 2)``: vectors in the file's pixels to those of the image that an EXIF orientation makes of it."""
    signs_and_axes = {
        1: ((1, 0), (0, 1)), 2: ((-1, 0), (0, 1)), 3: ((-1, 0), (0, -1)), 4: ((1, 0), (0, -1)),
        5: ((0, 1), (1, 0)), 6: ((0, -1), (1, 0)), 7: ((0, -1), (-1, 0)), 8: ((0, 1), (-1, 0)),
    }  # fmt: skip
    return np.array(signs_and_axes[orientation], np.float64)
