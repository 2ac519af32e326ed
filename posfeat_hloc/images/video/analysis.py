"""How sharp each frame of a video is, and how far the image has moved since the frame before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ImageError, Option
from posfeat_hloc.images.decoding import resize
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
    """The frames ``(H, W, 3)`` BGR from where the reader stands to the last one that can be decoded."""
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
