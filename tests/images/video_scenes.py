"""A short synthetic video: a window that slides over a large texture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.rendering import texture

WIDTH, HEIGHT = 160, 120


def slide(positions: Sequence[float], blurred: Sequence[int] = (), seed: int = 0) -> list[NDArray[np.uint8]]:
    """Grey frames ``(120, 160)`` of a camera that looks at ``positions`` pixels to the right, some of them shaken."""
    wall = texture(900, seed)
    frames = []
    for number, x in enumerate(positions):
        moved = cv2.warpAffine(wall, np.array([[1, 0, -x], [0, 1, -200.0]]), (WIDTH, HEIGHT))
        frames.append(np.asarray(cv2.blur(moved, (7, 7)) if number in blurred else moved, np.uint8))
    return frames


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]]) -> Path:
    """Motion JPEG in AVI, which every build of OpenCV reads and writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (width, height))  # type: ignore[attr-defined]
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path
