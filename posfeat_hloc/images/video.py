"""Write the chosen frames of video files as images, resumably."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.images.loader import fingerprint
from posfeat_hloc.images.video_motion import (
    Analysis,
    analyse,
    choose_frames,
    frames_of,
    open_video,
    step_for,
    step_to_get,
)

STEP = 0.03
"""Widths of the image by which it moves between two frames, if not told otherwise. It is small for who walks past,
but somebody who keeps the subject in the middle turns around it by some 8 degrees meanwhile."""

COUNT = 300
"""At most so many frames, if not told otherwise."""

_QUALITY = 95  # of the JPEG files
_WHOLE = 0.95  # of the frames that a file announces; many announce a few more than they hold
_NAME = re.compile(r"[0-9]{6}\.jpg")


@dataclass(frozen=True)
class VideoFrames:
    """Frames written from the videos.

    Attributes:
        names: of the images, relative to their folder, in the order of the videos and of time.
        watched: frames that the videos have, all together.
        written: images that were not there yet.
        step: widths of the image between two of them.
        incomplete: videos that break off early -> how many frames are there.
    """

    names: list[str]
    watched: int
    written: int
    step: float
    incomplete: dict[str, str]


def extract_frames(
    videos: Sequence[Path],
    images: Path,
    notes: Path,
    count: int = COUNT,
    step: float = STEP,
    progress: bool = True,
    exactly: bool = False,
) -> VideoFrames:
    """Write frames of videos as ``images/<name of the video>/<number of the frame>.jpg``.

    Frames are chosen by :func:`choose_frames`. A video is watched once: what was seen stays in ``notes``, so that the
    same videos with another ``count`` or ``step`` go faster. Frames of an earlier call that are not chosen any more
    are removed. A killed run loses the analysis of one video, and resumes.

    Args:
        videos: files that OpenCV reads, all of different names.
        images: folder of the images.
        notes: folder for one JSON file a video.
        count: at most so many frames, all videos together.
        step: the image moves by so many of its widths between two frames, by more where ``count`` asks for it.
        progress: show bars.
        exactly: come as near to ``count`` as can be, with a smaller ``step`` where it takes one.

    Raises:
        ImageError: not a video that can be read.
        ConfigurationError: two videos of one name, or too few frames asked for.
    """
    stems = [video.stem for video in videos]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise ConfigurationError(f"two videos are called {twice!r}; rename one of them")
    _forget_others(stems, images, notes)
    analyses = [_watched(video, images, notes / f"{video.stem}.json", progress) for video in videos]
    if exactly:
        step = step_to_get(analyses, count)
    else:
        step = step_for([analysis.motion for analysis in analyses], step, count)
    names, written = [], 0
    for video, analysis in zip(videos, analyses, strict=True):
        chosen = choose_frames(analysis, step)
        written += _write(video, chosen, images / video.stem)
        names += [f"{video.stem}/{_name(number)}" for number in chosen]
    incomplete = {
        str(video): f"breaks off after {len(analysis.motion)} of {analysis.announced} frames"
        for video, analysis in zip(videos, analyses, strict=True)
        if len(analysis.motion) < _WHOLE * analysis.announced
    }
    return VideoFrames(names, sum(len(analysis.motion) for analysis in analyses), written, step, incomplete)


def _name(number: int) -> str:
    return f"{number:06d}.jpg"


def _forget_others(stems: Sequence[str], images: Path, notes: Path) -> None:
    """Remove the frames of videos that an earlier call had and this one has not."""
    for file in notes.glob("*.json"):
        if file.stem not in stems:
            _remove_frames(images / file.stem)
            file.unlink()


def _remove_frames(folder: Path, but: frozenset[str] = frozenset()) -> None:
    for file in sorted(folder.glob("*.jpg")):
        if _NAME.fullmatch(file.name) and file.name not in but:
            file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)


def _watched(video: Path, images: Path, file: Path, progress: bool) -> Analysis:
    """What is known of the frames of a video, from an earlier call where it is the same file."""
    source = fingerprint(video)
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if earlier["source"] == source:
            return Analysis(np.array(earlier["sharpness"]), np.array(earlier["motion"]), int(earlier["announced"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or one that is not ours
    analysis = analyse(video, progress)
    _remove_frames(images / video.stem)  # of another file of this name
    values = {**asdict(analysis), "sharpness": analysis.sharpness.tolist(), "motion": analysis.motion.tolist()}
    _replace(file, (json.dumps({"source": source, **values}) + "\n").encode())
    return analysis


def _write(video: Path, chosen: Sequence[int], folder: Path) -> int:
    """Write the frames that are not there yet, and say how many."""
    _remove_frames(folder, but=frozenset(map(_name, chosen)))
    missing = {number for number in chosen if not (folder / _name(number)).exists()}
    count = len(missing)
    if not missing:
        return 0
    with open_video(video) as opened:
        for number, frame in zip(range(max(missing) + 1), frames_of(opened), strict=False):
            if number in missing:
                encoded, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                if not encoded:
                    raise ImageError(f"{video}: frame {number} cannot be written as JPEG")
                _replace(folder / _name(number), content.tobytes())
                missing.remove(number)
    if missing:
        raise ImageError(f"{video}: frame {min(missing)} cannot be decoded any more; did the file change?")
    return count


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is complete, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # hidden, so that it is never taken for an image
    partial.write_bytes(content)
    os.replace(partial, path)


__all__ = ["VideoFrames", "extract_frames"]
