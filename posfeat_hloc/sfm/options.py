"""Options of a reconstruction, and those that other pipelines share with it. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.runtime.memory import memory_size
from posfeat_hloc.runtime.options import (
    AtLeast,
    Choices,
    Const,
    Group,
    OrientationMode,
    Reads,
    Unit,
    check_options,
)

Mapper = Literal["incremental", "global", "hierarchical"]
CameraMode = Literal["auto", "single", "folder", "image"]
ExportFormat = Literal["text", "ply", "transforms", "undistorted"]

COARSE = 2048
"""Keypoints of an image that the coarse model is made from."""

PAIRS = ("exhaustive", "sequential", "retrieval", "gps")
"""What ``pairs`` knows by name; anything else is a file."""

DEMO_KEYPOINTS = 1500
"""Of an image of the demonstration, unless the user says otherwise: enough for small pictures, and so much faster."""

DEFAULT_RETRIEVAL = "vlad-hardnet"

MatcherName = Annotated[str | None, Choices.of(confs.matchers)]
RetrievalName = Annotated[str, Choices.of(confs.retrieval)]


def feature_text(text: str) -> str:
    """A name of a conf, or ``NAME:OPTION=VALUE[:OPTION=VALUE...]``; raises ConfigurationError for others."""
    from posfeat_hloc.extractors.choice import extracted_conf  # needs torch

    extracted_conf(text)
    return text


def retrieval_source(text: str) -> str:
    """The name of a conf of global descriptors, or an HDF5 file of them."""
    if text not in confs.retrieval and not text.endswith((".h5", ".hdf5")):
        raise ValueError(f"{text!r} is none of {', '.join(confs.retrieval)}, nor an HDF5 file (.h5)")
    return text


def camera_params(text: str) -> tuple[float, ...] | Path:
    """Numbers with commas between them, or a file."""
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        if Path(text).is_file():
            return Path(text)
        raise ValueError(f"{text!r} is neither a list of numbers nor a file") from error


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Which features are extracted and how they are matched."""

    feature: Annotated[str, Reads(feature_text), Unit("NAME"), Group("features and matches")] = confs.DEFAULT_FEATURE
    """A name that `posfeat-hloc list` shows; NAME:OPTION=VALUE[:OPTION=VALUE...] with other options of the extractor"""
    matcher: MatcherName = None
    """Which descriptors match (default: the one that suits the feature)"""
    weights: Annotated[str | None, Unit("NAME|FILE")] = None
    """Other weights for the feature's network: a file, the authors' folder of PoSFeat, or a name that
    `posfeat-hloc weights list` shows"""
    max_size: Annotated[int | None, AtLeast(1), Unit("PX")] = None
    """Shrink images to this longest side for extraction (default: the feature's, 1600 for most)"""
    max_keypoints: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Keypoints in an image (default: the feature's, 8192 for most)"""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """On what a pipeline computes."""

    device: Annotated[str, Group("computation")] = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Of all random choices"""
    threads: Annotated[int, Unit("N")] = -1
    """For COLMAP; 1 makes runs repeatable to the last digit (default: all cores)"""


@dataclass(frozen=True, kw_only=True)
class SfmOptions(ComputeOptions, FeatureOptions):
    """How photographs become a model; see :func:`posfeat_hloc.sfm.pipeline.reconstruct`.

    Raises ConfigurationError for a value that does not exist.
    """

    image_list: Annotated[Path | None, Unit("FILE"), Group("input")] = None
    """Only these images of the folder, a name a line"""
    demo: bool = False
    """A rendered town square in place of photographs; says how far the cameras are from the truth"""
    video: Annotated[tuple[Path, ...] | None, Unit("FILE")] = None
    """Videos, whose sharp frames go to OUTPUT/images; neighbours in time and similar frames are matched, and each video
    has one camera, if not told otherwise; with photographs besides, all become one model"""
    frames: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """So many of all videos, evenly spaced by motion; at most so many with a given motion (default: those that far
    apart, at most 300)"""
    motion: Annotated[float | None, Unit("PERCENT")] = None
    """Of its width that the picture moves at least between two frames of a video (default: 3, or as the number of
    frames asks for)"""
    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png (or the same stem) is black"""
    gps: bool = False
    """Put the model where EXIF says that photographs were taken, in metres east, north and up"""

    orientation: Annotated[OrientationMode, Group("features and matches")] = "auto"
    """How photographs are held, for their features; cameras and keypoints stay in the pixels as stored. exif: by EXIF
    alone; auto: also turned where others show that a photograph lies on its side; none: as stored"""

    pairs: Annotated[str | None, Unit("exhaustive|sequential|retrieval|gps|FILE"), Group("pairs")] = None
    """Which images are matched: all with all, neighbours in the natural order of names, similar ones, near ones by GPS,
    or those that a FILE names, two a line (default: exhaustive, retrieval of more than 200 images, of videos
    sequential)"""
    overlap: Annotated[int, AtLeast(1), Unit("N")] = 10
    """Neighbours on each side of sequential pairs"""
    loop_closure: bool | None = None
    """Also match similar images further apart, with sequential pairs (default: of videos)"""
    neighbors: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Most similar images of each for retrieval, nearest for gps (default: 20), and for loop closure (default: 5)"""
    retrieval: Annotated[str, Reads(retrieval_source), Unit(f"{'|'.join(confs.retrieval)}|FILE")] = DEFAULT_RETRIEVAL
    """What similarity is; or a FILE of global descriptors that hloc wrote"""

    camera: Annotated[CameraMode | None, Group("cameras and model")] = None
    """Which images share a camera: all (single), those of a folder, none (image), or those whose size and EXIF agree
    (auto); default: auto, of videos folder"""
    rig: Annotated[Path | None, Unit("FILE")] = None
    """COLMAP's rig configuration: cameras that are mounted together, with their relative poses, which stay; images
    taken at the same time are matched (cameras are then those of folders by default)"""
    camera_model: Annotated[str | None, Reads(str.upper), Unit("MODEL")] = None
    """COLMAP model, such as OPENCV_FISHEYE (default: SIMPLE_RADIAL, of panoramas EQUIRECTANGULAR)"""
    camera_params: Annotated[tuple[float, ...] | Path | None, Reads(camera_params), Unit("F,CX,CY,K|F|FILE")] = None
    """Intrinsics to start from in pixels: all of the model, the focal length, or a file of those of folders or images,
    'name MODEL width height params...' a line"""
    fix_camera: bool = False
    """Keep the given intrinsics as they are"""
    mapper: Mapper = "incremental"
    """COLMAP's way to a model"""
    coarse: Annotated[int, AtLeast(0), Const(COARSE), Unit("N")] = 0
    """Coarse to fine: place the cameras by the N strongest keypoints of each image, then match all of them along
    epipolar lines and triangulate at these poses (N: 2048; default: all at once)"""

    export: Annotated[tuple[ExportFormat, ...], Unit("text|ply|transforms|undistorted"), Group("output")] = ()
    """The model for other programs, in OUTPUT/export: COLMAP's text, points for viewers, nerfstudio's transforms.json,
    undistorted photographs for Gaussian splatting and dense stereo"""

    ray: Annotated[str | None, Unit("ADDRESS"), Group("computation")] = None
    """Extract and match on a Ray cluster: local, local:N (N processes on this machine), auto (the cluster this machine
    is in) or HOST:PORT"""
    memory: Annotated[int, Reads(memory_size), Unit("SIZE")] = 1 << 30
    """For descriptors while matching, e.g. 500M or 2G; more saves reading (default: 1G)"""

    def __post_init__(self) -> None:
        check_options(self)


def complete(options: SfmOptions, images: Path | None) -> SfmOptions:
    """Fill in the options whose defaults depend on what the images are.

    Args:
        options: as given.
        images: folder of photographs, if any.

    Raises:
        ConfigurationError: no input, or photographs for the demonstration, which renders its own.
    """
    if options.demo and (images or options.video):
        raise ConfigurationError(
            Option("demo"), ": renders its own images; leave out ", Option("images"), " and ", Option("video")
        )
    if not (options.demo or images or options.video):
        raise ConfigurationError(
            "no input; name a folder of photographs by ", Option("images"), ", a ", Option("video"), ", or try ",
            Option("demo"),
        )  # fmt: skip
    frames_alone = bool(options.video) and images is None
    pairs = options.pairs or ("sequential" if frames_alone else None)
    camera = options.camera or ("folder" if frames_alone or options.rig else "auto")  # frames tell no camera
    loops = options.loop_closure
    if loops is None:
        loops = frames_alone and pairs == "sequential"
    limit = options.max_keypoints or (DEMO_KEYPOINTS if options.demo else None)
    return replace(options, pairs=pairs, camera=camera, loop_closure=loops, max_keypoints=limit)
