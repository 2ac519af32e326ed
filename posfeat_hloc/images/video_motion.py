"""How sharp the frames of a video are and how far the image moves between them; which are worth matching."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, ImageError, Option
from posfeat_hloc.images.resampling import resize
from posfeat_hloc.runtime.progress import Bar

Picture = NDArray[np.uint8]

_SIZE = 640  # longest side in pixels that frames are looked at with
_CORNERS = 300
_FEWEST = 8  # corners without which nothing is said of motion
_LOST = 1.0  # pixels by which a corner may miss itself on the way there and back
CUT = 1.0
"""Motion between frames that have nothing in common: a whole width."""


@dataclass(frozen=True)
class Analysis:
    """What is known of each frame.

    Attributes:
        sharpness: ``(N,)`` variance of the Laplacian.
        motion: ``(N,)`` median displacement of corners since the frame before, in widths of the image; 0 for the
            first frame.
        announced: how many frames the file says it has, 0 where it does not say.
    """

    sharpness: NDArray[np.float64]
    motion: NDArray[np.float64]
    announced: int = 0


def analyse(path: Path, progress: bool = True) -> Analysis:
    """Look at every frame of a video.

    Raises:
        ImageError: not a video that can be read.
    """
    sharpness, motion = [], []
    before: Picture | None = None
    with open_video(path) as video:
        expected = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        with Bar(total=expected or None, desc=f"watch {path.name}", unit="frame", disable=not progress) as bar:
            for frame in frames_of(video):
                picture = resize(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8), _SIZE)
                sharpness.append(float(cv2.Laplacian(picture, cv2.CV_64F).var()))
                motion.append(0.0 if before is None else displacement(before, picture) / picture.shape[1])
                before = picture
                bar.update()
    if not sharpness:
        raise _unreadable(path)
    return Analysis(np.array(sharpness), np.array(motion), expected)


def displacement(picture0: Picture, picture1: Picture) -> float:
    """Median way in pixels of the corners of one grey ``(H, W)`` image to the next, by Lucas and Kanade.

    Corners that do not find back to where they came from do not count. A whole width when hardly any does: the
    scene has changed; 0 when there are no corners in the first place.
    """
    corners = cv2.goodFeaturesToTrack(picture0, _CORNERS, 0.01, 7)
    if corners is None or len(corners) < _FEWEST:
        return 0.0
    there, found0, _ = cv2.calcOpticalFlowPyrLK(picture0, picture1, corners, None)  # type: ignore[call-overload]
    back, found1, _ = cv2.calcOpticalFlowPyrLK(picture1, picture0, there, None)  # type: ignore[call-overload]
    missed = np.linalg.norm(back - corners, axis=2)[:, 0]
    kept = (found0[:, 0] == 1) & (found1[:, 0] == 1) & (missed < _LOST)
    if kept.sum() < _FEWEST:
        return CUT * picture0.shape[1]
    return float(np.median(np.linalg.norm(there - corners, axis=2)[kept, 0]))


@contextmanager
def open_video(path: Path) -> Iterator[Any]:
    """OpenCV's reader of a video file.

    Raises:
        ImageError: no such file, or not a video that can be read.
    """
    if not path.is_file():
        raise ImageError(f"{path}: no such file; ", Option("video"), " takes video files")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # damage is reported below, in words of ours
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # only FFmpeg: other readers would take a file name with digits for a series of images
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    try:
        if not video.isOpened():
            raise _unreadable(path)
        yield video
    finally:
        video.release()


def frames_of(video: Any) -> Iterator[NDArray[np.uint8]]:
    """The frames ``(H, W, 3)`` BGR from the current position of the reader to the last one that can be decoded."""
    while True:
        decoded, frame = video.read()
        if not decoded:
            return
        yield frame


def _unreadable(path: Path) -> ImageError:
    return ImageError(
        f"{path}: not a video that can be read; it may be incomplete (copy it again), or of a format to convert first "
        f"(ffmpeg -i {path.name} {path.stem}-converted.mp4)"
    )


_WINDOW = 0.5
"""Frames within this part of a step after it is complete compete by their sharpness."""


def choose_frames(analysis: Analysis, step: float) -> list[int]:
    """The sharpest frame of each window, one window whenever the image has moved by a step.

    A window opens where the image has moved by ``step`` since the frame chosen last, the first one at the first
    frame, and it closes half a step later.

    Args:
        analysis: of the video, frame by frame.
        step: in widths of the picture.

    Returns:
        numbers of frames, rising.
    """
    travelled = np.cumsum(analysis.motion)
    chosen: list[int] = []
    opens = 0
    while opens < len(travelled):
        closes = int(np.searchsorted(travelled, travelled[opens] + _WINDOW * step, side="right"))
        chosen.append(opens + int(np.argmax(analysis.sharpness[opens:closes])))
        opens = max(chosen[-1] + 1, int(np.searchsorted(travelled, travelled[chosen[-1]] + step, side="left")))
    return chosen


def step_for(motions: Sequence[NDArray[np.float64]], step: float, count: int) -> float:
    """The smallest step, at least ``step``, with which :func:`choose_frames` cannot give more than ``count`` frames.

    Args:
        motions: of each video, frame by frame.
        step: in widths of the picture.
        count: of frames, all videos together.

    Raises:
        ConfigurationError: fewer frames than two for each video, or a step that is not positive.
    """
    if not step > 0:
        raise ConfigurationError(f"frames need a positive motion between them, not {step}")
    total = _motion_of(motions, count)
    # each video gives one frame, and at most one more for each step; a little more, for what rounding adds
    return max(step, total / (count - len(motions)) * (1 + 1e-9))


def step_to_get(analyses: Sequence[Analysis], count: int) -> float:
    """The smallest step with which :func:`choose_frames` gives at most ``count`` frames, found by bisection.

    Args:
        analyses: of the videos.
        count: of frames, all videos together.

    Raises:
        ConfigurationError: fewer frames than two for each video.
    """
    total = _motion_of([analysis.motion for analysis in analyses], count)
    largest = total / (count - len(analyses)) * (1 + 1e-9)
    smallest = largest / 8  # a frame may be chosen half a step late, and steps do not end with the video
    if total == 0 or _frames(analyses, smallest) <= count:
        return smallest or 1.0
    for _ in range(14):  # to a ten-thousandth
        middle = (smallest * largest) ** 0.5
        smallest, largest = (smallest, middle) if _frames(analyses, middle) <= count else (middle, largest)
    return largest


def _frames(analyses: Sequence[Analysis], step: float) -> int:
    return sum(len(choose_frames(analysis, step)) for analysis in analyses)


def _motion_of(motions: Sequence[NDArray[np.float64]], count: int) -> float:
    """Of all videos together, in widths of the picture."""
    if count < 2 * len(motions):
        raise ConfigurationError(f"{count} frames of {len(motions)} videos are too few; ask for at least two of each")
    return float(sum(motion.sum() for motion in motions))
