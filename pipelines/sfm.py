"""Reconstruct a folder of photographs: features, matches, verification, a COLMAP model.

    python -m pipelines.sfm --images photos
    python -m pipelines.sfm --demo              (no photographs at hand)

Run the same command again to resume: finished images, pairs and stages are kept, and what changed (a photograph, an
option) is made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import pycolmap

from pipelines import demo
from pipelines.argument_types import positive
from pipelines.colmap_log import send_colmap_log_to
from pipelines.report import add_report_option, write_page
from pipelines.summary import Run, as_json, as_text
from posfeat_hloc import confs, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.exits import exit_code
from posfeat_hloc.extract_features import extract, fingerprint
from posfeat_hloc.images import list_images
from posfeat_hloc.mapping.cameras import MODES, CameraOptions
from posfeat_hloc.mapping.database import build_database, describe_database, verify
from posfeat_hloc.mapping.diagnosis import diagnose
from posfeat_hloc.mapping.pairs import Pair, exhaustive_pairs, read_pairs, sequential_pairs, unique_pairs, write_pairs
from posfeat_hloc.mapping.reconstruction import (
    MAPPERS,
    MapperOptions,
    read_model,
    reconstruct,
    summarize,
)
from posfeat_hloc.match_features import match
from posfeat_hloc.resume import Made, hash_of
from posfeat_hloc.retrieval import describe_images, retrieve
from posfeat_hloc.stores import FeatureStore

DEFAULT_FEATURE = "d2d-hardnet-subpixel"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 only when a model exists."""
    args = arguments(argv)
    resume = "run the same command again to go on from here"
    return exit_code(lambda: bool(sfm(args).models), args.output, resume)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What :func:`sfm` takes, from a command line; for commands that make several reconstructions, too."""
    return _parser().parse_args(argv)


def sfm(args: argparse.Namespace) -> Run:
    """Run all stages, print the summary and write ``summary.json``.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    truth = demo.prepare(args) if args.demo else None
    feature_conf, matcher_conf = configurations(args)
    camera = CameraOptions(args.camera, args.camera_model, args.camera_params)
    mapper = MapperOptions(args.mapper, args.seed, args.threads, refine_intrinsics=args.camera_params is None)
    names = list_images(args.images)
    if len(names) < 2:
        raise ConfigurationError(f"{args.images}: holds one image; a reconstruction needs at least two")
    output = args.output or Path("outputs") / args.images.resolve().name
    output.mkdir(parents=True, exist_ok=True)
    send_colmap_log_to(output / "logs")
    run = Run(images=len(names))

    features, matches = output / "features.h5", output / "matches.h5"
    with run.stage("extract"):
        run.extraction = extract(feature_conf, args.images, features, names, args.device, progress=not args.quiet)
    _note_kept(run, "extract", not run.extraction.extracted)
    usable = run.extraction.names
    if len(usable) < 2:
        reasons = "; ".join(run.extraction.skipped.values())
        raise ConfigurationError(f"{args.images}: fewer than two images can be read ({reasons})")

    pairs = (
        retrieved_pairs(args, usable, output, run) if args.pairs == "retrieval" else choose_pairs(args, usable, names)
    )
    run.pairs = len(pairs)
    write_pairs(output / "pairs.txt", pairs)
    with run.stage("match"):
        report = match(matcher_conf, pairs, features, matches, args.device, progress=not args.quiet)
    _note_kept(run, "match", report.matched == 0)

    database, sparse = output / "database.db", output / "sparse"
    key = _key(args, features, usable, pairs, matcher_conf, camera)
    with run.stage("verify"), Made(database, key) as made:
        _note_kept(run, "verify", made.already)
        if not made.already:
            partial = output / "database.partial.db"
            build_database(partial, args.images, features, matches, usable, pairs, camera, progress=not args.quiet)
            if not args.quiet:
                print(f"verify: two-view geometry of {describe_database(partial).pairs} pairs ...", flush=True)
            verify(partial, args.seed, args.threads)
            partial.rename(database)
    run.database = describe_database(database)

    with run.stage("map"), Made(sparse, [key, asdict(mapper)]) as made:
        _note_kept(run, "map", made.already)
        if made.already:
            folders = sorted((p for p in sparse.iterdir() if p.is_dir()), key=lambda p: int(p.name))
            run.models = [summarize(read_model(folder), folder) for folder in folders]
        else:
            run.models = reconstruct(database, args.images, sparse, mapper, progress=not args.quiet)
    if truth is not None and run.models:
        run.against_truth = demo.compare(Path(run.models[0].path), truth)
    run.diagnosis = diagnose(database, [Path(model.path) for model in run.models], vars(args))
    (output / "summary.json").write_text(json.dumps(as_json(run, vars(args)), indent=2, ensure_ascii=False) + "\n")
    print(as_text(run, args.feature, args.images, output))
    write_page(output, args)
    return run


def _note_kept(run: Run, stage: str, kept: bool) -> None:
    if kept:
        run.kept.add(stage)


def configurations(args: argparse.Namespace) -> tuple[confs.Conf, confs.Conf]:
    """The feature and matcher confs that the command line asks for."""
    feature = deepcopy(confs.extractors[args.feature])
    if args.max_size is not None:
        feature["preprocessing"]["resize_max"] = args.max_size
    if args.max_keypoints is not None:
        feature["model"]["max_keypoints"] = args.max_keypoints
    if args.weights is not None:
        if "weights" not in feature["model"]:
            raise ConfigurationError(f"--weights: {args.feature} has no weights")
        feature["model"]["weights"] = args.weights
    matcher = args.matcher or confs.default_matchers[args.feature]
    return feature, deepcopy(confs.matchers[matcher])


def choose_pairs(args: argparse.Namespace, usable: list[str], names: list[str]) -> list[Pair]:
    """Pairs of images that have features."""
    if args.pairs == "exhaustive":
        return exhaustive_pairs(usable)
    if args.pairs == "sequential":
        return sequential_pairs(usable, args.overlap)
    have = set(usable)
    pairs = [pair for pair in read_pairs(Path(args.pairs), names) if have.issuperset(pair)]
    if not pairs:
        raise ConfigurationError(f"{args.pairs}: none of its pairs has two readable images")
    return pairs


def retrieved_pairs(args: argparse.Namespace, usable: list[str], output: Path, run: Run) -> list[Pair]:
    """Each image with the most similar others, by global descriptors kept in the output folder."""
    conf = confs.retrieval[args.retrieval]
    path = output / f"{conf['output']}.h5"
    with run.stage("retrieve"):
        report = describe_images(conf, args.images, path, usable, args.device, progress=not args.quiet)
        if len(report.names) < 2:
            reasons = "; ".join(report.skipped.values())
            raise ConfigurationError(f"{args.images}: fewer than two images can be described ({reasons})")
        pairs = unique_pairs(retrieve(path, path, args.neighbors, report.names, report.names))
    _note_kept(run, "retrieve", not report.extracted)
    for name, reason in report.skipped.items():
        run.extraction.notes[name] = "; ".join(filter(None, [run.extraction.notes.get(name), f"not paired: {reason}"]))
    return pairs


def _key(
    args: argparse.Namespace,
    features: Path,
    usable: list[str],
    pairs: list[Pair],
    matcher: confs.Conf,
    camera: CameraOptions,
) -> str:
    """Changes with anything the database depends on."""
    with FeatureStore(features) as store:
        digests = [(name, store.digest(name), fingerprint(args.images / name)) for name in usable]
    return hash_of([digests, pairs, matcher["model"], asdict(camera), args.seed, pycolmap.__version__])


def _floats(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.sfm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="folder of photographs, searched recursively")
    source.add_argument("--demo", action="store_true",
        help="a rendered town square in place of photographs; says how far the cameras are from the truth")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of images>)")
    add("--feature", choices=list(confs.extractors), default=DEFAULT_FEATURE, help="default: %(default)s")
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--weights", metavar="NAME|FILE",
        help="other weights for the feature's network: a file, the authors' folder of PoSFeat, or a public name "
        f"({', '.join(weights.PUBLIC)})")  # fmt: skip
    add("--max-size", type=positive, metavar="PX",
        help=f"shrink images to this longest side for extraction (default: {confs.RESIZE_MAX})")  # fmt: skip
    add("--max-keypoints", type=positive, metavar="N", help="keypoints in an image (default: 8192)")
    add("--pairs", default="exhaustive", metavar="exhaustive|sequential|retrieval|FILE",
        help="which images are matched: all with all, neighbours in the order of names, similar ones, or those that a "
        "FILE names, two a line (default: %(default)s)")  # fmt: skip
    add("--overlap", type=positive, default=10, metavar="N",
        help="neighbours on each side for --pairs sequential (default: %(default)s)")  # fmt: skip
    add("--neighbors", type=positive, default=20, metavar="N",
        help="most similar images of each for --pairs retrieval (default: %(default)s)")  # fmt: skip
    add("--retrieval", choices=list(confs.retrieval), default="vlad-hardnet",
        help="what similarity is, for --pairs retrieval (default: %(default)s)")  # fmt: skip
    add("--camera", choices=MODES, default="auto",
        help="which images share a camera: all (single), those of a folder, none (image), or those whose size and "
        "EXIF agree (auto, the default)")  # fmt: skip
    add("--camera-model", default="SIMPLE_RADIAL", metavar="MODEL", help="COLMAP model (default: %(default)s)")
    add("--camera-params", type=_floats, metavar="F,CX,CY,K",
        help="known intrinsics, in the order of the model; they are not refined")  # fmt: skip
    add("--mapper", choices=MAPPERS, default="incremental", help="default: %(default)s")
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N",
        help="for COLMAP; 1 makes runs repeatable to the last digit (default: all cores)")  # fmt: skip
    add("--quiet", action="store_true", help="no progress bars")
    add_report_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
