"""Which images of a map queries are matched with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.localization.maps import MapFolder, SparseMap
from posfeat_hloc.localization.options import LocalizationOptions
from posfeat_hloc.localization.queries import Asked
from posfeat_hloc.localization.query_orientation import views_of
from posfeat_hloc.orientation import Orientation
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.runtime.reporter import QUIET, Reporter
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore
from posfeat_hloc.stores.pairs import Pair, read_pairs


@dataclass(frozen=True)
class PairChoice:
    """What decides which pairs are matched.

    Attributes:
        parts: files of the map.
        sparse: its model.
        asked: the queries.
        output: folder for global descriptors.
        options: see :class:`LocalizationOptions`.
        reporter: hears what is done.
    """

    parts: MapFolder
    sparse: SparseMap
    asked: Asked
    output: Path
    options: LocalizationOptions
    reporter: Reporter = QUIET

    def pairs(self, usable: Sequence[str], turn: int = 0, shown: Orientation | None = None) -> list[Pair]:
        """Pairs (query, map image) of queries with features and map images with poses.

        Args:
            usable: queries with features.
            turn: quarter turns after which queries are compared with the map's images.
            shown: how each query is shown.
        """
        options, have = self.options, set(usable)
        if options.pairs is not None and options.neighbors is not None:
            raise ConfigurationError(
                Option("pairs"), " and ", Option("neighbors"), " exclude each other; leave one out"
            )
        if options.pairs is not None:
            with FeatureStore(self.parts.features) as store:
                known = sorted({*store.names(), *self.sparse.names})
            found = read_pairs(options.pairs, self.asked.names, known)
            return [(query, image) for query, image in found if query in have and image in self.sparse]
        database = self._descriptors() if options.neighbors is not None and usable else None
        if options.neighbors is None or database is None:
            return [(query, image) for query in usable for image in self.sparse.names]
        shown = shown or Orientation()
        conf = confs.retrieval[options.retrieval]
        described = self.output / (f"turned-{90 * turn}" if turn else "") / f"{conf['output']}.h5"
        report = describe_images(
            conf, self.asked.images, described, usable, options.device, database, progress=self.reporter.progress,
            rot90=turn, views=shown.views, exif=shown.exif,
        )  # fmt: skip
        with GlobalDescriptorStore(database) as store:
            names = [name for name in self.sparse.names if name in store]
        return retrieve(described, database, options.neighbors, report.names, names)

    def _descriptors(self) -> Path | None:
        """Global descriptors of the map's images; None where its photographs are not at hand."""
        options, parts = self.options, self.parts
        known = parts.descriptors.get(options.retrieval)
        if known is not None:
            return known
        photographs = options.map_images or parts.images
        if photographs is None or not photographs.is_dir():
            self.reporter.note(
                f"the photographs of {parts.model} are not at {photographs}, so that queries are matched with all "
                f"of its images; name their folder by {Option('map_images')}"
            )
            return None
        conf = confs.retrieval[options.retrieval]
        path = self.output / f"map-{conf['output']}.h5"
        describe_images(
            conf, photographs, path, self.sparse.names, options.device, progress=self.reporter.progress,
            views=views_of(parts.features),
        )  # fmt: skip
        return path
