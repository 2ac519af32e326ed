"""New photographs join a map: features, matches with the map's images, registration; the old poses stay."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from posfeat_hloc import confs, extractors
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.localization.maps import MapFolder, open_map
from posfeat_hloc.localization.query_orientation import QueryImages, orient_queries, views_of
from posfeat_hloc.match_features import match
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.runtime.colmap_log import send_colmap_log_to
from posfeat_hloc.runtime.options import recorded
from posfeat_hloc.runtime.output import claim, only_writer
from posfeat_hloc.runtime.reporter import QUIET, Reporter, reporting
from posfeat_hloc.sfm.cameras import CameraOptions
from posfeat_hloc.sfm.extension import ExtensionOptions, Stores, build_extended_database, extend_model, moved
from posfeat_hloc.sfm.models import ModelSummary, posed_images, read_model, registered_names, summarize, write_model
from posfeat_hloc.sfm.options import RegisterOptions
from posfeat_hloc.sfm.pairs import exhaustive_pairs
from posfeat_hloc.sfm.summary import write_summary
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.stores.pairs import Pair, unique_pairs, write_pairs


@dataclass(frozen=True)
class Registration:
    """Result of adding new photographs.

    Attributes:
        model: the grown one.
        before: images with a pose in the map.
        registered: new images with a pose.
        failed: new images without one -> why.
        moved: largest change of a number in an old pose; 0 where they stay to the last digit.
        feature: name of the map's.
        images: folder of the photographs.
    """

    model: ModelSummary
    before: int
    registered: list[str]
    failed: dict[str, str]
    moved: float
    feature: str
    images: Path


def register_images(
    map_folder: Path, output: Path, options: RegisterOptions | None = None, reporter: Reporter = QUIET
) -> Registration:
    """Register the photographs of a folder that a map does not have yet, and write the grown map to another folder.

    The map is not changed. Its features are copied to ``output/features.h5``, to which the new ones are added, so that
    ``output`` is a map of its own.

    Args:
        map_folder: output of :func:`posfeat_hloc.sfm.pipeline.reconstruct`, of
            :func:`posfeat_hloc.sfm.map_at_known_poses.triangulate_images`, or of this function.
        output: another folder.
        options: see :class:`RegisterOptions`.
        reporter: hears what is done.

    Raises:
        PosfeatError: for anything a user can fix.
    """
    options, progress = options or RegisterOptions(), reporter.progress
    parts = open_map(map_folder)
    parts.check_extractor(extractors.create(parts.conf["model"]))
    images = options.images or parts.images
    if images is None:
        raise ConfigurationError(
            f"{map_folder}: does not say where its photographs are; name their folder by ", Option("images")
        )
    if output.resolve() == map_folder.resolve():
        raise ConfigurationError(f"{output}: holds the map itself; write the grown one to another folder")
    model, sparse = read_model(parts.model), parts.sparse()
    before = {name: image.cam_from_world() for name, image in posed_images(model).items()}
    new = [name for name in list_images(images) if name not in before]
    if not new:
        raise ConfigurationError(f"{images}: all its photographs are in the model already; put new ones there")
    with only_writer(output), reporting(reporter):
        send_colmap_log_to(output / "logs")
        stores = Stores(images, output / "features.h5", output / "matches.h5")
        claim(output, [map_folder])
        copy_features(parts.features, stores.features, sparse.names)
        held = QueryImages(images, new, output, images, options.device, options.masks, progress=progress)
        shown = orient_queries("auto", parts, sparse.names, held)
        report = extract(
            parts.conf, images, stores.features, new, options.device,
            progress=progress, masks=options.masks, views=shown.views,
        )  # fmt: skip
        pairs = _choose_pairs(parts, sparse.names, report.names, output, images, options, progress)
        write_pairs(output / "pairs.txt", pairs)
        matcher = parts.matcher(options.matcher)
        match(matcher, pairs, stores.features, stores.matches, options.device, progress=progress)
        extension = ExtensionOptions(options.move, seed=options.seed, threads=options.threads)
        database = output / "database.db"
        build_extended_database(
            database, model, stores, report.names, pairs, CameraOptions(), extension.seed, extension.threads,
            progress,
        )  # fmt: skip
        working = output / "sparse.partial"
        shutil.rmtree(working, ignore_errors=True)
        grown = extend_model(model, database, images, working / "colmap", extension)
        (working / "0").mkdir(parents=True)
        write_model(grown, working / "0")
        shutil.rmtree(output / "sparse", ignore_errors=True)
        working.replace(output / "sparse")
        summary = summarize(grown, output / "sparse" / "0")
        record = {"map": str(map_folder), "output": str(output)} | recorded(options)
        write_summary(output, summary, images, parts.feature, record, map_folder)
    posed = set(registered_names(grown))
    failed = {name: "no pose that enough of its matches agree with" for name in report.names if name not in posed}
    return Registration(
        summary,
        len(before),
        sorted(posed.intersection(new)),
        {**failed, **report.skipped},
        moved(before, grown),
        parts.feature,
        images,
    )


def copy_features(features: Path, copy: Path, names: Sequence[str]) -> None:
    """Copy a feature file, unless there is a copy that has the same features of some images, and perhaps more.

    Args:
        features: of a map.
        copy: to which features of other images may have been added.
        names: images of the map.

    Raises:
        StoreError: one of the files is damaged, or an image is missing in the first.
    """
    if copy.exists():
        with FeatureStore(features) as first, FeatureStore(copy) as second:
            have = set(second.names())
            if all(name in have and second.digest(name) == first.digest(name) for name in names):
                return
    partial = copy.with_name(f"{copy.name}.partial")
    shutil.copyfile(features, partial)
    partial.replace(copy)


def _choose_pairs(
    parts: MapFolder,
    old: Sequence[str],
    new: Sequence[str],
    output: Path,
    images: Path,
    options: RegisterOptions,
    progress: bool,
) -> list[Pair]:
    """Pairs of new images with the map's and with one another."""
    if not new:
        raise ConfigurationError(f"{images}: none of the new photographs can be read")
    if options.neighbors is None:
        return [*product(new, old), *exhaustive_pairs(new)]
    conf = confs.retrieval[options.retrieval]
    path = output / f"{conf['output']}.h5"
    names = [name for name in (*old, *new) if (images / name).is_file()]
    views = views_of(output / "features.h5")
    described = describe_images(conf, images, path, names, options.device, progress=progress, views=views)
    have = set(described.names)
    similar = retrieve(path, path, options.neighbors, [n for n in new if n in have], described.names)
    return unique_pairs(similar)
