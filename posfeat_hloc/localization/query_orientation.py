"""How queries are held, by votes of the images of a map."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.high_bit_depth import ranges_of
from posfeat_hloc.images.loader import ImageInputs
from posfeat_hloc.images.masks import Masks
from posfeat_hloc.localization.maps import MapFolder
from posfeat_hloc.orientation.choice import Orientation, key_of, known_views, stands_every_turn, voted, write_small
from posfeat_hloc.orientation.looks import Looks, has_these_weights
from posfeat_hloc.orientation.queries import Gallery, query_views
from posfeat_hloc.stores import FeatureStore

if TYPE_CHECKING:
    from posfeat_hloc.cluster import Cluster


@dataclass(frozen=True)
class QueryImages:
    """What is to be held as the images of a map.

    Attributes:
        images: folder of the queries.
        names: in it.
        output: folder with their ``features.h5``, where there is one already.
        photographs: folder of the map's images; where :class:`MapFolder` knows it when None.
        device, masks, cluster, progress: see :func:`posfeat_hloc.extract_features.extract`.
    """

    images: Path
    names: Sequence[str]
    output: Path
    photographs: Path | None = None
    device: str = "auto"
    masks: Path | None = None
    cluster: Cluster | None = None
    progress: bool = True


def orient_queries(mode: str, parts: MapFolder, map_names: Sequence[str], queries: QueryImages) -> Orientation:
    """How queries are shown to the extractor; as they are where the map has nothing small to compare with.

    What an earlier run extracted in some turn stays in it.

    Args:
        mode: see :func:`posfeat_hloc.orientation.choose_views`.
        parts: the map.
        map_names: its images.
        queries: see :class:`QueryImages`.
    """
    if mode != "auto" or stands_every_turn(parts.conf["model"]):
        return Orientation(exif=mode != "none")
    masks = None if queries.masks is None else Masks(queries.masks)
    inputs = ImageInputs(queries.images, masks, ranges=ranges_of(queries.images, queries.names))
    known = known_views(queries.output / "features.h5", inputs, queries.names)
    new = [name for name in queries.names if name not in known]
    small = _small_map(parts, map_names, queries) if new else None
    views = {name: known[name] for name in queries.names if known.get(name, UPRIGHT) != UPRIGHT}
    if small is None:
        return Orientation(views)
    folder = queries.output / "orientation.partial"
    looks = Looks(
        queries.images, folder, {}, queries.device, queries.masks, cluster=queries.cluster, progress=queries.progress
    )
    with Gallery(small, map_names) as gallery:
        views |= query_views(gallery, looks.look(new), looks.stored, looks.frame) if gallery.names else {}
    shutil.rmtree(folder, ignore_errors=True)
    return Orientation(views, looked=looks.count)


def views_of(features: Path) -> dict[str, View]:
    """How the images of a feature file were shown, for those that were not shown as they are."""
    with FeatureStore(features) as store:
        views = {name: store.view(name) for name in store.names()}
    return {name: view for name, view in views.items() if view != UPRIGHT}


def _small_map(parts: MapFolder, names: Sequence[str], queries: QueryImages) -> Path | None:
    """Small features of the map's images: those that its making left, or new ones of its photographs."""
    if parts.orientation is not None and has_these_weights(parts.orientation):
        return parts.orientation
    photographs = queries.photographs or parts.images
    if photographs is None or not photographs.is_dir():
        return None
    there = [name for name in names if (photographs / name).is_file()]
    here, inputs = queries.output / "map-orientation.h5", ImageInputs(photographs, ranges=ranges_of(photographs, there))
    key = key_of(inputs, there)
    if there and not (voted(here) == key and has_these_weights(here)):
        views = {name: View(view.rotation) for name, view in views_of(parts.features).items()}
        folder = queries.output / "map-orientation.partial"
        looks = Looks(photographs, folder, views, queries.device, progress=queries.progress)
        write_small(here, looks, {name: views.get(name, UPRIGHT) for name in looks.look(there)}, inputs, key)
        shutil.rmtree(folder, ignore_errors=True)
    return here if there else None
