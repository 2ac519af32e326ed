"""How queries are held, by votes of the images of a map, each as it was shown when the map was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posfeat_hloc import extractors
from posfeat_hloc.extract_features import extract_shown
from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.decoding import DecodedImage
from posfeat_hloc.orientation.election import EIGHTHS, HALF, NEAR, PARTNERS, QUARTERS, TURNED_PARTNERS, Similarity
from posfeat_hloc.orientation.looks import AS_IT_IS, Look, read_frame, read_small, small_conf, upright_frame
from posfeat_hloc.orientation.synchronisation import Rules, best_turn
from posfeat_hloc.orientation.votes import AGREES, SmallFeatures, Vote, vote
from posfeat_hloc.runtime.computation import computing_threads, in_order
from posfeat_hloc.stores import FeatureStore

LookAt = Callable[[Sequence[str], Look], Mapping[str, SmallFeatures]]
"""Gives small features of queries, of those that can be read."""

Frame = Callable[[str], NDArray[np.float64]]
"""Vectors in a query's pixels as stored to those of the image that it is before any look, ``(2, 2)``."""


class Gallery:
    """The images of a map that queries are compared with; usable as a context manager.

    Args:
        path: file of small features that ``choose_views`` wrote.
        names: of the map's images; those that are not in the file are left out.

    Raises:
        StoreError: the file is missing or damaged.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._store = FeatureStore(path)
        self.names = [name for name in names if name in self._store]
        self.search = Similarity(self.features, self.names)

    def features(self, name: str) -> SmallFeatures:
        """Small features of an image."""
        return read_small(self._store, name)

    def frame(self, name: str) -> NDArray[np.float64]:
        """``(2, 2)``: vectors in its pixels as stored to those of the image that was shown."""
        return read_frame(self._store, name)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def query_views(gallery: Gallery, names: Sequence[str], look_at: LookAt, frame: Frame) -> dict[str, View]:
    """Rotations of queries to the orientation of the images of a map; only rotated queries.

    A query is looked at in further turns only where it agrees with no image of the map as it is, in eighths of a turn
    and in half its size only where nothing is known of it then.
    """
    votes: dict[str, list[Vote]] = {name: [] for name in names}

    def ask(open_names: Sequence[str], looks: Sequence[Look], partners: int) -> None:
        for look in looks if open_names else ():
            for name, found in _votes(gallery, look_at(open_names, look), look, frame, partners).items():
                votes[name] += [replace(one, scale=one.scale * look.size) for one in found]

    ask(names, [AS_IT_IS], PARTNERS)
    ask([name for name, v in votes.items() if not any(abs(one.turn()) <= AGREES for one in v)],
        [Look(turn) for turn in QUARTERS], TURNED_PARTNERS)  # fmt: skip
    ask([name for name, v in votes.items() if not v], [Look(turn) for turn in EIGHTHS], TURNED_PARTNERS)
    ask([name for name, v in votes.items() if not v], [Look(turn, HALF) for turn in (0, *QUARTERS)], TURNED_PARTNERS)
    views = {name: _view(found) for name, found in votes.items() if found}
    return {name: view for name, view in views.items() if view != UPRIGHT}


def _view(votes: Sequence[Vote]) -> View:
    """The turn with most evidence; a second size where all that the query shows is nearer or further away."""
    turn = best_turn([(one.turn(), one.evidence) for one in votes], Rules(least=0))[1]
    scales = [one.scale for one in votes]  # of things in the map's images, relative to the query
    second = HALF if max(scales) < 1 / NEAR else 1 / HALF if min(scales) > NEAR else 0.0
    return View(turn, second)


def _votes(
    gallery: Gallery, found: Mapping[str, SmallFeatures], look: Look, frame: Frame, partners: int
) -> dict[str, list[Vote]]:
    """For each query the votes that count among those of the most similar images."""

    def work(name: str) -> tuple[str, list[Vote]]:
        similar = gallery.search.nearest(found[name])[:partners]
        frames = frame(name)
        tried = [
            vote(found[name], gallery.features(other), (frames, gallery.frame(other)), look.turn) for other in similar
        ]
        return name, [one for one in tried if one.counts]

    with computing_threads(torch.get_num_threads()) as pool:
        return dict(in_order(pool, work, list(found), ahead=4))


class Upright:
    """Estimates the rotation of images to the orientation of the images of a map.

    Args:
        path: small features of the map's images.
        names: of these images.
        device: a torch device.

    Raises:
        StoreError: the file is damaged.
    """

    def __init__(self, path: Path, names: Sequence[str], device: str) -> None:
        self._gallery = Gallery(path, names)
        self._extractor = extractors.create(small_conf()["model"], device)

    def view(self, image: DecodedImage) -> View:
        """Rotation of an image, in addition to its EXIF tag."""

        def look_at(names: Sequence[str], look: Look) -> Mapping[str, SmallFeatures]:
            conf = small_conf(look.size)["preprocessing"]
            found = extract_shown(self._extractor, image, conf, View(look.turn))
            width, height = image.stored_size
            scale = min(1.0, conf["resize_max"] / max(width, height))
            points = found.keypoints.astype(np.float64) * scale
            small = SmallFeatures(points, found.descriptors, (width * scale, height * scale))
            return dict.fromkeys(names, small)

        if not self._gallery.names:
            return UPRIGHT
        return query_views(self._gallery, ["image"], look_at, lambda _: upright_frame(image.orientation)).get(
            "image", UPRIGHT
        )

    def close(self) -> None:
        """Close the map's file."""
        self._gallery.close()
