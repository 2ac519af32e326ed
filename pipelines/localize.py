"""Localize photographs in a map: features, pairs, matches, poses.

    python -m pipelines.localize --map outputs/museum --queries new_photos

The map is an output of pipelines.sfm, or a COLMAP model with --map-features. Nothing is written to it. Run the same
command again to resume.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from pipelines.argument_types import add_orientation, add_pose_options, positive, thresholds
from pipelines.localize_summary import LocalizationRun, as_json, as_text
from posfeat_hloc import confs, extractors
from posfeat_hloc.cli.exit_codes import exit_code
from posfeat_hloc.cli.page import add_report_option, write_page
from posfeat_hloc.cluster import FORMS, connect
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.evaluation.poses import THRESHOLDS, TrueCamera, localization_errors, read_true_poses
from posfeat_hloc.extract_features import extract
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.formats import EXTENSIONS
from posfeat_hloc.localization.localize import localize
from posfeat_hloc.localization.map_folder import MapFolder, open_map
from posfeat_hloc.localization.options import LocalizationOptions
from posfeat_hloc.localization.queries import Query, queries_of_folder, read_query_lists
from posfeat_hloc.localization.query_orientation import QueryImages, orient_queries, views_of
from posfeat_hloc.localization.rotation_retry import TurnedInputs, one_turned, retry_turned
from posfeat_hloc.localization.sparse_map import SparseMap
from posfeat_hloc.localization.submission import NAMES, result_names, write_results
from posfeat_hloc.match_features import match
from posfeat_hloc.orientation import Orientation
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.runtime.output import only_writer, write_atomically
from posfeat_hloc.runtime.output_inputs import claim
from posfeat_hloc.runtime.timing import timed
from posfeat_hloc.sfm.pairs import Pair, read_pairs, write_pairs
from posfeat_hloc.stores import FeatureStore, GlobalDescriptorStore


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 only when a query was localized."""
    args = _parser().parse_args(argv)
    resume = "run the same command again to go on from here"
    return exit_code(lambda: run(args).localized > 0, _output(args), resume)


def run(args: argparse.Namespace) -> LocalizationRun:
    """Run all stages, print the summary and write ``poses.txt``, ``queries.jsonl`` and ``summary.json``.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    options = LocalizationOptions(
        args.max_error, args.min_inliers, args.seed, args.covisibility_clustering, args.fallback, args.threads
    )
    parts = open_map(args.map, args.map_features, args.feature, args.weights)
    parts.check_extractor(extractors.create(parts.conf["model"]))
    sparse = SparseMap(parts.model)
    with FeatureStore(parts.features) as store:
        sparse.check_features(store)
    asked = _Asked.of(args)
    result_names(asked.names, args.names)  # complains of names that would collide before the work, not after it
    truth = None if args.ground_truth is None else read_true_poses(args.ground_truth, asked.names)
    output = _output(args)
    with only_writer(output):
        claim(output, [args.map])
        return _run(args, options, parts, sparse, asked, truth, output)


def _run(
    args: argparse.Namespace,
    options: LocalizationOptions,
    parts: MapFolder,
    sparse: SparseMap,
    asked: _Asked,
    truth: dict[str, TrueCamera] | None,
    output: Path,
) -> LocalizationRun:
    """The stages, one after the other."""
    cluster = connect(args.ray)
    done = LocalizationRun(parts.feature, sparse, len(asked.names))
    progress = not args.quiet

    features, matches = output / "features.h5", output / "matches.h5"
    seconds: dict[str, float] = {}
    with timed(seconds, "orient"):
        held = QueryImages(
            asked.images, asked.names, output, args.map_images, args.device, args.masks, cluster, progress
        )
        shown = orient_queries(args.orientation, parts, sparse.names, held)
    done.seconds |= seconds if shown.looked else {}
    with done.stage("extract"):
        report = extract(
            parts.conf,
            asked.images,
            features,
            asked.names,
            args.device,
            progress=progress,
            masks=args.masks,
            cluster=cluster,
            views=shown.views,
            exif=shown.exif,
        )
    done.skipped = report.skipped
    queries = asked.with_guesses(features, report.names)
    with done.stage("pairs"):
        pairs = choose_pairs(args, parts, sparse, asked, report.names, shown=shown)
        write_pairs(output / "pairs.txt", pairs)
    done.pairs = len(pairs)
    with done.stage("match"):
        matcher = confs.matchers[args.matcher or confs.default_matchers.get(parts.feature, "NN-mutual")]
        match(
            matcher, pairs, features, matches, args.device, progress=progress, reference=parts.features, cluster=cluster
        )
    with done.stage("localize"):
        log = output / "queries.jsonl"
        done.results = localize(
            sparse, queries, pairs, features, matches, options, log, parts.features, progress, cluster
        )
    inputs = TurnedInputs(
        asked.images, queries, parts.conf, matcher,
        lambda turn, names: choose_pairs(args, parts, sparse, asked, names, turn),
        sparse, parts.features, args.masks, args.device, progress,
    )  # fmt: skip
    if args.try_rotations:
        with done.stage("turn"):
            done.results = retry_turned(inputs, done.results, options, output, log)
    elif any(not result.localized for result in done.results.values()):
        with done.stage("turn"):
            done.turned_query = one_turned(inputs, done.results, options, output)
    poses = {name: r.cam_from_world for name, r in done.results.items() if r.cam_from_world is not None}
    write_results(output / "poses.txt", poses, args.names)
    if truth is not None:
        done.errors = localization_errors({n: p for n, p in poses.items() if not done.results[n].fallback}, truth)
    command = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    summary = as_json(done, args.thresholds, command)
    write_atomically(output / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    print(as_text(done, args.thresholds, output))
    write_page(output, args)
    return done


@dataclass(frozen=True)
class _Asked:
    """Which images are to be localized.

    Attributes:
        images: their folder.
        names: in it.
        queries: with intrinsics; those of the other names are guessed.
    """

    images: Path
    names: list[str]
    queries: list[Query] = field(default_factory=list)

    @classmethod
    def of(cls, args: argparse.Namespace) -> _Asked:
        paths = [path for text in args.queries for path in _meant(text)]
        if any(path.is_dir() for path in paths):
            if len(paths) > 1:
                raise ConfigurationError(f"--queries: takes one folder, or several files, not {len(paths)} of both")
            if args.images is not None and args.images != paths[0]:
                raise ConfigurationError("--images is for a list of queries; a folder holds its own photographs")
            return cls(paths[0], list_images(paths[0]))
        if all(path.suffix.lower() in EXTENSIONS for path in paths):
            return cls._of_photographs(paths)
        queries, bare = read_query_lists(paths)
        images = args.images or paths[0].parent
        names = [*(query.name for query in queries), *bare]
        if not any((images / name).is_file() for name in names):
            raise ConfigurationError(
                f"{images}: holds none of the {len(names)} images of {paths[0]}, such as {names[0]!r}; "
                "name their folder by --images"
            )
        return cls(images, names, queries)

    @classmethod
    def _of_photographs(cls, paths: Sequence[Path]) -> _Asked:
        folders = {path.parent for path in paths}
        if len(folders) > 1:
            raise ConfigurationError(
                f"--queries: photographs of {len(folders)} folders; give one folder that holds them all"
            )
        return cls(folders.pop(), sorted({path.name for path in paths}))

    def with_guesses(self, features: Path, usable: Sequence[str]) -> list[Query]:
        """All queries: those without intrinsics that could be read get a guessed focal length."""
        known = {query.name for query in self.queries}
        with FeatureStore(features) as store:
            sizes = {name: store.image_size(name) for name in usable if name not in known}
        return [*self.queries, *(queries_of_folder(self.images, sizes) if sizes else [])]


def _meant(text: str) -> list[Path]:
    """The file or folder that a word of ``--queries`` names, or all that a pattern with ``*`` fits."""
    path = Path(text)
    if path.exists():
        return [path]
    found = [Path(name) for name in sorted(glob(text, recursive=True))]
    if not found:
        raise ConfigurationError(f"{text}: no such file or folder; --queries takes lists, photographs or a folder")
    return found


def choose_pairs(
    args: argparse.Namespace,
    parts: MapFolder,
    sparse: SparseMap,
    asked: _Asked,
    usable: list[str],
    turn: int = 0,
    shown: Orientation | None = None,
) -> list[Pair]:
    """Pairs (query, map image) of queries with features and map images with poses.

    ``turn``: quarter turns after which queries are compared with the map's images; ``shown``: how each is shown.
    """
    have = set(usable)
    if args.pairs is not None and args.neighbors is not None:
        raise ConfigurationError("--pairs and --neighbors exclude each other; leave one out")
    if args.pairs is not None:
        with FeatureStore(parts.features) as store:
            found = read_pairs(args.pairs, asked.names, sorted({*store.names(), *sparse.names}))
        return [(query, image) for query, image in found if query in have and image in sparse]
    if args.neighbors is not None and usable:
        return _retrieved_pairs(args, parts, sparse, asked.images, usable, turn, shown or Orientation())
    return [(query, image) for query in usable for image in sparse.names]


def _retrieved_pairs(
    args: argparse.Namespace,
    parts: MapFolder,
    sparse: SparseMap,
    images: Path,
    usable: list[str],
    turn: int,
    shown: Orientation,
) -> list[Pair]:
    """Each query with the most similar map images; all of them where the map's photographs are not at hand."""
    conf, progress = confs.retrieval[args.retrieval], not args.quiet
    database = parts.descriptors.get(args.retrieval)
    if database is None:
        photographs: Path | None = args.map_images or parts.images
        if photographs is None or not photographs.is_dir():
            print(
                f"note: the photographs of {args.map} are not at {photographs}, so that queries are matched with all "
                "of its images; name their folder by --map-images",
                file=sys.stderr,
            )
            return [(query, image) for query in usable for image in sparse.names]
        database = _output(args) / f"map-{conf['output']}.h5"
        describe_images(
            conf, photographs, database, sparse.names, args.device, progress=progress, views=views_of(parts.features)
        )
    described = _output(args) / (f"turned-{90 * turn}" if turn else "") / f"{conf['output']}.h5"
    report = describe_images(
        conf, images, described, usable, args.device, database, progress=progress, turn=turn,
        views=shown.views, exif=shown.exif,
    )  # fmt: skip
    with GlobalDescriptorStore(database) as store:
        names = [name for name in sparse.names if name in store]
    return retrieve(described, database, args.neighbors, report.names, names)


def _output(args: argparse.Namespace) -> Path:
    given: Path | None = args.output
    first = Path(args.queries[0])
    name = first.resolve().stem if first.exists() else "queries"
    return given or Path("outputs") / f"{args.map.resolve().name}-{name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.localize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--map", type=Path, required=True, metavar="DIR", help="output folder of pipelines.sfm, or a COLMAP model")
    add("--queries", nargs="+", required=True, metavar="FILE|DIR",
        help="lists 'name MODEL width height params...' (COLMAP's convention) or with a name a line, photographs, a "
        "pattern of such files, or a folder; focal lengths that are not given come from EXIF or are estimated"
        )  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="folder of a list's photographs (default: the folder of the list)")
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<map>-<queries>)")
    add("--masks", type=Path, metavar="DIR",
        help="no keypoints of queries where DIR/<query name>.png (or the same stem) is black")  # fmt: skip
    add("--map-features", type=Path, metavar="FILE", help="features the map was made from (default: its features.h5)")
    add("--feature", choices=list(confs.extractors),
        help="the map's feature; needed only where its file does not record it")  # fmt: skip
    add("--weights", metavar="NAME|FILE", help="of the map's feature, where they cannot be told from the map")
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--pairs", type=Path, metavar="FILE",
        help="'query map-image' a line, the most similar first (default: all with all)")  # fmt: skip
    add("--neighbors", type=positive, metavar="N",
        help="match each query with the N most similar map images only")  # fmt: skip
    add("--retrieval", choices=list(confs.retrieval), default="vlad-hardnet",
        help="what similarity is, for --neighbors (default: %(default)s)")  # fmt: skip
    add("--map-images", type=Path, metavar="DIR",
        help="the map's photographs, for --neighbors (default: where pipelines.sfm found them)")  # fmt: skip
    add_pose_options(parser)
    add_orientation(parser)
    add("--try-rotations", action="store_true",
        help="turn queries by 90, 180 and 270 degrees while they have few inliers, which costs up to three times the "
        "extraction; for maps made with --orientation exif whose photographs are gone")  # fmt: skip
    add("--names", choices=NAMES, default="file",
        help="names in poses.txt: without folders, with the last one, or whole (default: %(default)s)")  # fmt: skip
    add("--ground-truth", type=Path, metavar="FILE|MODEL",
        help="true poses: 'name qw qx qy qz tx ty tz' a line, or a COLMAP model in the map's frame")  # fmt: skip
    add("--thresholds", type=thresholds, default=THRESHOLDS, metavar="'D,A D,A ...'",
        help="distances and degrees for recall (default: 0.25,2 0.5,5 5,10)")  # fmt: skip
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--ray", metavar="ADDRESS", help=f"work on a Ray cluster: {FORMS}")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N",
        help="for poses, which do not depend on it (default: all cores)")  # fmt: skip
    add("--quiet", action="store_true", help="no progress bars")
    add_report_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
