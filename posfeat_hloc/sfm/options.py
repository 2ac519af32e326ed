"""Options of a reconstruction and of maps, and those that other pipelines share. Nothing heavy is imported here."""

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
"""Of an image of the demonstration, unless the user says otherwise: enough for small images, and so much faster."""

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
        raise ValueError(f"{text!r} is not one of {', '.join(confs.retrieval)}, nor an HDF5 file (.h5)")
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
    """Matcher (default: that of the feature)"""
    weights: Annotated[str | None, Unit("NAME|FILE")] = None
    """Other weights for the feature's network: a file, the authors' folder of PoSFeat, or a name that
    `posfeat-hloc weights list` shows"""
    max_size: Annotated[int | None, AtLeast(1), Unit("PX")] = None
    """Longest side of images for extraction, in pixels (default: that of the feature, mostly 1600)"""
    max_keypoints: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Maximum number of keypoints per image (default: that of the feature, mostly 8192)"""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """On what a pipeline computes."""

    device: Annotated[str, Group("computation")] = "auto"
    """Torch device: auto, cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of all random choices"""
    threads: Annotated[int, Unit("N")] = -1
    """Threads of COLMAP; 1 makes runs exactly reproducible (default: all cores)"""


@dataclass(frozen=True, kw_only=True)
class SfmOptions(ComputeOptions, FeatureOptions):
    """How photographs become a model; see :func:`posfeat_hloc.sfm.pipeline.reconstruct`.

    Raises ConfigurationError for a value that does not exist.
    """

    image_list: Annotated[Path | None, Unit("FILE"), Group("input")] = None
    """Only these images of the folder, one name per line"""
    demo: bool = False
    """Reconstruct a rendered town square and compare its cameras with ground truth"""
    video: Annotated[tuple[Path, ...] | None, Unit("FILE")] = None
    """Videos; sharp frames are written to OUTPUT/images, neighbouring and similar frames are matched, each video has
    one camera by default; may be combined with photographs"""
    frames: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Number of frames of all videos, evenly spaced by motion; with a given motion, the maximum (default: as the motion
    requires, at most 300)"""
    motion: Annotated[float | None, Unit("PERCENT")] = None
    """Minimum motion between two frames of a video, in percent of the width (default: 3, or as the number of frames
    requires)"""
    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png (or the same stem) is black"""
    gps: bool = False
    """Align the model with the GPS positions in EXIF, in metres east, north and up"""

    orientation: Annotated[OrientationMode, Group("features and matches")] = "auto"
    """Rotation of images for feature extraction; cameras and keypoints stay in the pixels as stored. exif: by the EXIF
    tag; auto: also rotated images without a tag are found; none: as stored"""

    pairs: Annotated[str | None, Unit("exhaustive|sequential|retrieval|gps|FILE"), Group("pairs")] = None
    """Which images are matched: all with all, neighbours in the natural order of names, similar ones, near ones by GPS,
    or those that a FILE names, two a line (default: exhaustive, retrieval of more than 200 images, of videos
    sequential)"""
    overlap: Annotated[int, AtLeast(1), Unit("N")] = 10
    """Neighbours on each side of sequential pairs"""
    loop_closure: bool | None = None
    """Also match similar images further apart, with sequential pairs (default: for videos)"""
    neighbors: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Most similar images of each for retrieval, nearest for gps (default: 20), and for loop closure (default: 5)"""
    retrieval: Annotated[str, Reads(retrieval_source), Unit(f"{'|'.join(confs.retrieval)}|FILE")] = DEFAULT_RETRIEVAL
    """Global descriptor, or a FILE of global descriptors written by hloc"""

    camera: Annotated[CameraMode | None, Group("cameras and model")] = None
    """Which images share a camera: all (single), those of a folder, none (image), or those whose size and EXIF agree
    (auto); default: auto, of videos folder"""
    rig: Annotated[Path | None, Unit("FILE")] = None
    """COLMAP's rig configuration: cameras mounted together, with constant relative poses; images taken at the same time
    are matched (one camera per folder by default)"""
    camera_model: Annotated[str | None, Reads(str.upper), Unit("MODEL")] = None
    """COLMAP model, such as OPENCV_FISHEYE (default: SIMPLE_RADIAL, of panoramas EQUIRECTANGULAR)"""
    camera_params: Annotated[tuple[float, ...] | Path | None, Reads(camera_params), Unit("F,CX,CY,K|F|FILE")] = None
    """Initial intrinsics in pixels: all of the model, the focal length, or a file of those of folders or images,
    one line 'name MODEL width height params...' each"""
    fix_camera: bool = False
    """Keep the given intrinsics constant"""
    mapper: Mapper = "incremental"
    """COLMAP's mapper"""
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
    """Memory for descriptors while matching, e.g. 500M or 2G (default: 1G)"""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class ExportOptions:
    """How models are exported, see :func:`posfeat_hloc.export.export`."""

    masks: Annotated[Path | None, Unit("DIR")] = None
    """Masks of the photographs, for transforms and undistorted: black where training ignores the pixels"""
    keep_frame: bool = False
    """Keep the coordinate frame; otherwise transforms and undistorted are rotated upright, as estimated from the
    photographs

    By their EXIF orientation and their cameras: z up and -y up, as the readers of both expect. Models in metres east,
    north and up (``georeference.json`` beside them) are never rotated.
    """
    max_size: Annotated[int | None, AtLeast(1), Unit("PX")] = None
    """Shrink undistorted photographs to this longest side (default: no limit)"""
    progress: bool = True
    """Whether bars are drawn."""


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


Refinement = Literal["poses", "all"]


@dataclass(frozen=True, kw_only=True)
class TriangulateOptions(ComputeOptions, FeatureOptions):
    """How a map is made at known poses."""

    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png is black."""
    pairs: Annotated[Path | None, Unit("FILE")] = None
    """Two image names per line (default: by common 3D points of the model, and by poses)."""
    neighbors: Annotated[int, AtLeast(1), Unit("N")] = 20
    """For each image, so many others by common points and as many by poses; all where there are no more images."""
    max_angle: Annotated[float, Unit("DEGREES")] = 60.0
    """Between the directions in which two images look that are paired by poses."""
    refine: Refinement | None = None
    """Move poses to where the new points agree best; all: intrinsics, too (default: they stay).

    Then points are triangulated again. The model as a whole stays where it was.
    """

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class RegisterOptions(ComputeOptions):
    """How photographs are added to a map."""

    images: Annotated[Path | None, Unit("DIR")] = None
    """Photographs of the map and new ones; those that the map lacks are registered (default: its own folder, to which
    you have added some)."""
    matcher: MatcherName = None
    """Matcher (default: that of the feature)."""
    neighbors: Annotated[int | None, AtLeast(1), Unit("N")] = None
    """Match each new photograph with the N most similar ones only (default: with all)."""
    retrieval: RetrievalName = DEFAULT_RETRIEVAL
    """Global descriptor."""
    move: bool = False
    """Adjust old poses and intrinsics, too; the model as a whole stays where it was (default: they stay to the last
    digit)."""
    masks: Annotated[Path | None, Unit("DIR")] = None
    """No keypoints where DIR/<image name>.png is black."""

    def __post_init__(self) -> None:
        check_options(self)
