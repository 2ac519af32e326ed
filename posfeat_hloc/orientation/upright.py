"""How an image in memory is held, by votes of a map that is loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from posfeat_hloc import extractors
from posfeat_hloc.extract_features import extract_shown
from posfeat_hloc.features import UPRIGHT, View
from posfeat_hloc.images.decoding import DecodedImage
from posfeat_hloc.orientation.looks import Look, small_conf, upright_frame
from posfeat_hloc.orientation.queries import Gallery, query_views
from posfeat_hloc.orientation.votes import SmallFeatures


class Upright:
    """Tells how images are to be turned so that they lie as those of a map.

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
        """How to show an image, beyond what its EXIF tag says."""

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
