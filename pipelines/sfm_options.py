"""The command line of ``pipelines.sfm``."""

from __future__ import annotations

import argparse
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import demo
from pipelines.argument_types import add_network_options, add_orientation, not_negative, positive, retrieval_source
from pipelines.feature_list import choose_features
from pipelines.report import add_report_option
from pipelines.sfm_meant import understand
from pipelines.sfm_pairs import ALL_PAIRS_UP_TO, LOOPS, NEIGHBORS
from posfeat_hloc import confs, extractors, matchers
from posfeat_hloc.cluster import FORMS
from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.export import FORMATS, check_formats
from posfeat_hloc.images.video.frames import COUNT, STEP
from posfeat_hloc.runtime.memory import memory_size
from posfeat_hloc.sfm.calibration import read_calibrations
from posfeat_hloc.sfm.cameras import MODES, CameraOptions
from posfeat_hloc.sfm.coarse_to_fine import COARSE
from posfeat_hloc.sfm.reconstruction import MAPPERS, MapperOptions
from posfeat_hloc.sfm.rigs import read_rigs


@dataclass(frozen=True)
class Settings:
    """How images are turned into a model, as the command line asks for it."""

    feature: confs.Conf
    matcher: confs.Conf
    camera: CameraOptions
    mapper: MapperOptions
    rigs: list[Any]
    """pycolmap's; empty without."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Settings:
        """Raises ConfigurationError for options that do not belong together."""
        if args.loop_closure and args.pairs != "sequential":
            raise ConfigurationError("--loop-closure is for --pairs sequential; retrieval alone finds loops as well")
        if args.fix_camera and args.camera_params is None:
            raise ConfigurationError("--fix-camera keeps the intrinsics of --camera-params; give them")
        camera = _camera(args)
        for model in {camera.model, *(known.model for known in camera.calibrations)}:
            check_formats(args.export or (), model)
        return cls(
            *configurations(args),
            camera,
            MapperOptions(args.mapper, args.seed, args.threads, refine_intrinsics=not args.fix_camera),
            [] if args.rig is None else read_rigs(args.rig),
        )


def _camera(args: argparse.Namespace) -> CameraOptions:
    """``--camera``, ``--camera-model`` and ``--camera-params``, numbers or a file."""
    model, given = args.camera_model or "SIMPLE_RADIAL", args.camera_params
    if isinstance(given, Path):
        return CameraOptions(args.camera, model, calibrations=read_calibrations(given), videos=_folders_of_videos(args))
    return CameraOptions(args.camera, model, given, videos=_folders_of_videos(args))


def _folders_of_videos(args: argparse.Namespace) -> tuple[str, ...]:
    """Where photographs stand beside them; otherwise ``--camera folder`` is the default."""
    return tuple(video.stem for video in args.video) if args.video and args.photos else ()


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the options whose defaults depend on what the images are: folders among them.

    Raises:
        ConfigurationError: see :func:`pipelines.sfm_meant.understand`.
    """
    for note in understand(args):
        print(f"note: {note}", flush=True)
    args.photos = args.images if args.video else None
    if args.images is not None:
        args.output = args.output or Path("outputs") / args.images.resolve().name
    else:
        args.output = args.output or Path("outputs") / ("demo" if args.demo else args.video[0].stem)
    if args.demo or args.video:
        args.images = args.output / "images"  # which are made there
    frames_alone = args.video is not None and args.photos is None
    if frames_alone:
        args.pairs = args.pairs or "sequential"
    args.camera = args.camera or (
        "folder" if frames_alone or args.rig else "auto"
    )  # frames say nothing of their camera
    if args.loop_closure is None:
        args.loop_closure = frames_alone and args.pairs == "sequential"
    if args.demo:
        args.max_keypoints = args.max_keypoints or demo.MAX_KEYPOINTS
    return args


def configurations(args: argparse.Namespace) -> tuple[confs.Conf, confs.Conf]:
    """The feature and matcher confs that the command line asks for."""
    feature = choose_features([args.feature])[0].conf
    assert feature is not None  # feature_text has seen to that
    if args.max_size is not None:
        feature["preprocessing"]["resize_max"] = args.max_size
    if args.max_keypoints is not None:
        feature["model"] = extractors.with_limit(feature["model"], args.max_keypoints)
    if args.weights is not None:
        if "weights" not in feature["model"]:
            raise ConfigurationError(f"--weights: {args.feature} has no weights")
        feature["model"]["weights"] = args.weights
    matcher = args.matcher or confs.default_matchers[args.feature.partition(":")[0]]
    conf = deepcopy(confs.matchers[matcher])
    matchers.check_suits(conf["model"].get("features"), feature, f"--matcher {matcher}")
    return feature, conf


def feature_text(text: str) -> str:
    """A name of a conf, or NAME:OPTION=VALUE[:OPTION=VALUE...], for argparse."""
    try:
        choice = choose_features([text])[0]
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--features: ")) from error
    if choice.conf is None:
        raise argparse.ArgumentTypeError(f"{text!r} is a file; name a feature that can be extracted")
    return text


def _camera_params(text: str) -> tuple[float, ...] | Path:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        if Path(text).is_file():
            return Path(text)
        raise argparse.ArgumentTypeError(f"{text!r} is neither a list of numbers nor a file") from error


def parser(description: str | None) -> argparse.ArgumentParser:
    """All options of ``pipelines.sfm``."""
    options = argparse.ArgumentParser(
        prog="python -m pipelines.sfm", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = options.add_argument_group("input")
    add = group.add_argument
    add("folder", type=Path, nargs="?", metavar="DIR", help="the same as --images DIR")
    add("--images", type=Path, metavar="DIR", help="folder of photographs, searched recursively")
    add("--image-list", type=Path, metavar="FILE", help="only these images of the folder, a name a line")
    add("--demo", action="store_true",
        help="a rendered town square in place of photographs; says how far the cameras are from the truth")  # fmt: skip
    add("--video", type=Path, nargs="+", metavar="FILE",
        help="videos, whose sharp frames go to OUTPUT/images; neighbours in time and similar frames are matched, and "
        "each video has one camera, if not told otherwise; with --images, photographs and videos become one model"
        )  # fmt: skip
    add("--frames", type=positive, metavar="N",
        help="so many of all --video files, evenly spaced by motion; at most so many with --motion "
        f"(default: those --motion apart, at most {COUNT})")  # fmt: skip
    add("--motion", type=float, metavar="PERCENT",
        help="of its width that the picture moves at least between two frames of a --video "
        f"(default: {100 * STEP:g}, or as --frames asks for)")  # fmt: skip
    add("--masks", type=Path, metavar="DIR",
        help="no keypoints where DIR/<image name>.png (or the same stem) is black")  # fmt: skip
    add("--gps", action="store_true",
        help="put the model where EXIF says that photographs were taken, in metres east, north and up")  # fmt: skip

    group = options.add_argument_group("features and matches")
    add = group.add_argument
    add("--feature", type=feature_text, default=confs.DEFAULT_FEATURE, metavar="NAME",
        help="default: %(default)s; `python -m posfeat_hloc list` names all; NAME:OPTION=VALUE[:OPTION=VALUE...] with "
        "other options of the extractor")  # fmt: skip
    add_network_options(group)
    add("--max-size", type=positive, metavar="PX",
        help=f"shrink images to this longest side for extraction (default: {confs.RESIZE_MAX})")  # fmt: skip
    add("--max-keypoints", type=positive, metavar="N", help="keypoints in an image (default: 8192)")
    add_orientation(group)

    add = options.add_argument_group("pairs").add_argument
    add("--pairs", metavar="exhaustive|sequential|retrieval|gps|FILE",
        help="which images are matched: all with all, neighbours in the natural order of names, similar ones, near "
        "ones by GPS, or those that a FILE names, two a line (default: exhaustive, retrieval of more than "
        f"{ALL_PAIRS_UP_TO} images, of videos sequential)")  # fmt: skip
    add("--overlap", type=positive, default=10, metavar="N",
        help="neighbours on each side for --pairs sequential (default: %(default)s)")  # fmt: skip
    add("--loop-closure", action=argparse.BooleanOptionalAction,
        help="also match similar images further apart, with --pairs sequential (default: of videos)")  # fmt: skip
    add("--neighbors", type=positive, metavar="N",
        help="most similar images of each for --pairs retrieval, nearest for gps "
        f"(default: {NEIGHBORS}), and for --loop-closure (default: {LOOPS})")  # fmt: skip
    add("--retrieval", type=retrieval_source, default="vlad-hardnet", metavar=f"{'|'.join(confs.retrieval)}|FILE",
        help="what similarity is; or a FILE of global descriptors that hloc wrote (default: %(default)s)")  # fmt: skip

    add = options.add_argument_group("cameras and model").add_argument
    add("--camera", choices=MODES,
        help="which images share a camera: all (single), those of a folder, none (image), or those whose size and "
        "EXIF agree (auto); default: auto, of videos folder")  # fmt: skip
    add("--rig", type=Path, metavar="FILE",
        help="COLMAP's rig configuration: cameras that are mounted together, with their relative poses, which stay; "
        "images taken at the same time are matched (--camera is then folder by default)")  # fmt: skip
    add("--camera-model", type=str.upper, metavar="MODEL",
        help="COLMAP model, such as OPENCV_FISHEYE (default: SIMPLE_RADIAL, of panoramas EQUIRECTANGULAR)")  # fmt: skip
    add("--camera-params", type=_camera_params, metavar="F,CX,CY,K|F|FILE",
        help="intrinsics to start from in pixels: all of the model, the focal length, or a file of those of folders or "
        "images, 'name MODEL width height params...' a line")  # fmt: skip
    add("--fix-camera", action="store_true", help="keep --camera-params as they are")
    add("--mapper", choices=MAPPERS, default="incremental", help="default: %(default)s")
    add("--coarse", type=not_negative, nargs="?", const=COARSE, default=0, metavar="N",
        help="coarse to fine: place the cameras by the N strongest keypoints of each image, then match all of them "
        f"along epipolar lines and triangulate at these poses (N: {COARSE}; default: all at once)")  # fmt: skip

    group = options.add_argument_group("output")
    add = group.add_argument
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of results (default: outputs/<name of images or video>, outputs/demo)",
    )
    add("--export", nargs="+", choices=FORMATS, metavar="|".join(FORMATS),
        help="the model for other programs, in OUTPUT/export: COLMAP's text, points for viewers, nerfstudio's "
        "transforms.json, undistorted photographs for Gaussian splatting and dense stereo")  # fmt: skip
    add_report_option(group)
    add("--quiet", action="store_true", help="no progress bars")

    add = options.add_argument_group("computation").add_argument
    add("--device", default="auto", help="torch device: auto, cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--ray", metavar="ADDRESS", help=f"extract and match on a Ray cluster: {FORMS}")
    add("--memory", type=memory_size, default="1G", metavar="SIZE",
        help="for descriptors while matching, e.g. 500M or 2G; more saves reading (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    add("--threads", type=int, default=-1, metavar="N",
        help="for COLMAP; 1 makes runs repeatable to the last digit (default: all cores)")  # fmt: skip
    return options
