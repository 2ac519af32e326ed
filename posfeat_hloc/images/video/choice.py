"""Which frames of a video are worth matching: sharp ones, at even steps of the motion in the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.video.analysis import Analysis

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
