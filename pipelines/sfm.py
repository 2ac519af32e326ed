"""Reconstruct a folder of photographs: features, matches, verification, a COLMAP model.

    python -m pipelines.sfm --images photos

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

from pipelines.argument_types import positive
from pipelines.colmap_log import send_colmap_log_to
from pipelines.sfm_inputs import complete, gps_positions, open_inputs, tell_georeference
from pipelines.sfm_pairs import LOOPS, NEIGHBORS, choose_pairs
from pipelines.summary import Run, as_json, as_text, explain_unregistered
from posfeat_hloc import confs, weights
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.exits import exit_code
from posfeat_hloc.export import FORMATS, export
from posfeat_hloc.extract_features import extract, fingerprint
from posfeat_hloc.images import list_images
from posfeat_hloc.mapping.cameras import MODES, CameraOptions
from posfeat_hloc.mapping.database import build_database, describe_database, verify
from posfeat_hloc.mapping.georeference import georeference, read_georeference
from posfeat_hloc.mapping.gps import local_positions, write_priors
from posfeat_hloc.mapping.pairs import Pair, write_pairs
from posfeat_hloc.mapping.reconstruction import (
    MAPPERS,
    MapperOptions,
    read_model,
    reconstruct,
    summarize,
)
from posfeat_hloc.match_features import match
from posfeat_hloc.resume import Made, hash_of
from posfeat_hloc.stores import FeatureStore
from posfeat_hloc.video.frames import COUNT, STEP

DEFAULT_FEATURE = "d2d-hardnet-subpixel"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code is 0 only when a model exists."""
    args = arguments(argv)
    resume = "run the same command again to go on from here"
    return exit_code(lambda: bool(sfm(args).models), args.output, resume)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What :func:`sfm` takes, from a command line; for commands that make several reconstructions, too."""
    return complete(_parser().parse_args(argv))


def sfm(args: argparse.Namespace) -> Run:
    """Run all stages, print the summary and write ``summary.json``.

    Raises:
        PosfeatError: for anything a user can mend.
    """
    feature_conf, matcher_conf = configurations(args)
    camera = CameraOptions(args.camera, args.camera_model, args.camera_params)
    mapper = MapperOptions(args.mapper, args.seed, args.threads, refine_intrinsics=args.camera_params is None)
    run = Run()
    output = open_inputs(args, run)
    names = list_images(args.images)
    run.images = len(names)
    if len(names) < 2:
        raise ConfigurationError(f"{args.images}: holds one image; a reconstruction needs at least two")
    output.mkdir(parents=True, exist_ok=True)
    send_colmap_log_to(output / "logs")
    gps = gps_positions(args, names, run)
    positions = local_positions(gps) if args.gps or args.pairs == "gps" else None

    features, matches = output / "features.h5", output / "matches.h5"
    with run.stage("extract"):
        run.extraction = extract(
            feature_conf, args.images, features, names, args.device, progress=not args.quiet, masks=args.masks
        )
    run.note_kept("extract", not run.extraction.extracted)
    usable = run.extraction.names
    if len(usable) < 2:
        reasons = "; ".join(run.extraction.skipped.values())
        raise ConfigurationError(f"{args.images}: fewer than two images can be read ({reasons})")

    pairs = choose_pairs(args, usable, names, output, run, positions)
    run.pairs = len(pairs)
    write_pairs(output / "pairs.txt", pairs)
    with run.stage("match"):
        report = match(matcher_conf, pairs, features, matches, args.device, progress=not args.quiet)
    run.note_kept("match", report.matched == 0)

    database, sparse = output / "database.db", output / "sparse"
    key = _key(args, features, usable, pairs, matcher_conf, camera)
    with run.stage("verify"), Made(database, key) as made:
        run.note_kept("verify", made.already)
        if not made.already:
            partial = output / "database.partial.db"
            build_database(partial, args.images, features, matches, usable, pairs, camera, progress=not args.quiet)
            if not args.quiet:
                print(f"verify: two-view geometry of {describe_database(partial).pairs} pairs ...", flush=True)
            verify(partial, args.seed, args.threads)
            partial.rename(database)
    run.database = describe_database(database)
    placed = [{name: asdict(position) for name, position in gps.items()}] if args.gps else []
    if args.gps:
        write_priors(database, gps)

    with run.stage("map"), Made(sparse, [key, asdict(mapper), *placed]) as made:
        run.note_kept("map", made.already)
        if made.already:
            folders = sorted((p for p in sparse.iterdir() if p.is_dir()), key=lambda p: int(p.name))
            run.models = [summarize(read_model(folder), folder) for folder in folders]
        else:
            run.models = reconstruct(database, args.images, sparse, mapper, progress=not args.quiet)
            if args.gps and positions is not None:
                georeference(sparse, positions, args.seed)
    if args.gps and run.models:
        tell_georeference(read_georeference(sparse), run)
    if args.export and run.models:
        written = export(Path(run.models[0].path), dict.fromkeys(args.export), output / "export", args.images)
        run.remarks["exported"] = ", ".join(map(str, written))
    run.unregistered = explain_unregistered(run)
    (output / "summary.json").write_text(json.dumps(as_json(run, vars(args)), indent=2, ensure_ascii=False) + "\n")
    print(as_text(run, args.feature, args.images, output))
    return run


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
    group = parser.add_argument_group("input")
    add, source = group.add_argument, group.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="folder of photographs, searched recursively")
    source.add_argument("--video", type=Path, nargs="+", metavar="FILE",
        help="videos, whose sharp frames go to OUTPUT/images; neighbours in time and similar frames are matched, and "
        "each video has one camera, if not told otherwise")  # fmt: skip
    add("--frames", type=positive, default=COUNT, metavar="N",
        help="at most so many of all --video files (default: %(default)s)")  # fmt: skip
    add("--motion", type=float, default=100 * STEP, metavar="PERCENT",
        help="of its width that the picture moves between two frames of a --video (default: %(default)g)")  # fmt: skip
    add("--masks", type=Path, metavar="DIR",
        help="no keypoints where DIR/<image name>.png (or the same stem) is black")  # fmt: skip
    add("--gps", action="store_true",
        help="put the model where EXIF says that photographs were taken, in metres east, north and up")  # fmt: skip

    add = parser.add_argument_group("features and matches").add_argument
    add("--feature", choices=list(confs.extractors), default=DEFAULT_FEATURE, help="default: %(default)s")
    add("--matcher", choices=list(confs.matchers), help="default: the one that suits the feature")
    add("--weights", metavar="NAME|FILE",
        help="other weights for the feature's network: a file, the authors' folder of PoSFeat, or a public name "
        f"({', '.join(weights.PUBLIC)})")  # fmt: skip
    add("--max-size", type=positive, metavar="PX",
        help=f"shrink images to this longest side for extraction (default: {confs.RESIZE_MAX})")  # fmt: skip
    add("--max-keypoints", type=positive, metavar="N", help="keypoints in an image (default: 8192)")

    add = parser.add_argument_group("pairs").add_argument
    add("--pairs", metavar="exhaustive|sequential|retrieval|gps|FILE",
        help="which images are matched: all with all, neighbours in the order of names, similar ones, near ones by "
        "GPS, or those that a FILE names, two a line (default: exhaustive, of videos sequential)")  # fmt: skip
    add("--overlap", type=positive, default=10, metavar="N",
        help="neighbours on each side for --pairs sequential (default: %(default)s)")  # fmt: skip
    add("--loop-closure", action=argparse.BooleanOptionalAction,
        help="also match similar images further apart, with --pairs sequential (default: of videos)")  # fmt: skip
    add("--neighbors", type=positive, metavar="N",
        help="most similar images of each for --pairs retrieval, nearest for gps "
        f"(default: {NEIGHBORS}), and for --loop-closure (default: {LOOPS})")  # fmt: skip
    add("--retrieval", choices=list(confs.retrieval), default="vlad-hardnet",
        help="what similarity is (default: %(default)s)")  # fmt: skip

    add = parser.add_argument_group("cameras and model").add_argument
    add("--camera", choices=MODES,
        help="which images share a camera: all (single), those of a folder, none (image), or those whose size and "
        "EXIF agree (auto); default: auto, of videos folder")  # fmt: skip
    add("--camera-model", default="SIMPLE_RADIAL", metavar="MODEL", help="COLMAP model (default: %(default)s)")
    add("--camera-params", type=_floats, metavar="F,CX,CY,K",
        help="known intrinsics, in the order of the model; they are not refined")  # fmt: skip
    add("--mapper", choices=MAPPERS, default="incremental", help="default: %(default)s")

    add = parser.add_argument_group("output").add_argument
    add("--output", type=Path, metavar="DIR", help="folder of results (default: outputs/<name of images or video>)")
    add("--export", nargs="+", choices=FORMATS, metavar="|".join(FORMATS),
        help="the model for other programs, in OUTPUT/export: COLMAP's text, points for viewers, nerfstudio's and "
        "Gaussian splatting's transforms.json")  # fmt: skip

    add = parser.add_argument
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N",
        help="for COLMAP; 1 makes runs repeatable to the last digit (default: all cores)")  # fmt: skip
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
