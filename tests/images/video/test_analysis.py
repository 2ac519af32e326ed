"""Sharpness and motion of frames whose motion is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from posfeat_hloc.errors import ImageError
from posfeat_hloc.images.video.analysis import CUT, analyse, displacement
from tests.images.video.scenes import WIDTH, slide, write_video
from tests.rendering import texture


def test_motion_is_that_of_the_picture(tmp_path: Path) -> None:
    positions = np.cumsum([0, 3, 3, 0, 5.5, 1, 12])
    found = analyse(write_video(tmp_path / "a.avi", slide(positions)), progress=False)
    assert_allclose(found.motion * WIDTH, [0, 3, 3, 0, 5.5, 1, 12], atol=0.1)
    assert found.announced == 7


def test_shaken_frames_are_less_sharp(tmp_path: Path) -> None:
    found = analyse(write_video(tmp_path / "a.avi", slide(range(6), blurred=[2, 4])), progress=False)
    assert np.flatnonzero(found.sharpness < np.median(found.sharpness) / 4).tolist() == [2, 4]


def test_frames_with_nothing_in_common_are_a_cut_and_blank_ones_do_not_move(tmp_path: Path) -> None:
    one, other = slide([0])[0], slide([0], seed=5)[0]
    blank = np.full_like(one, 30)
    assert displacement(one, other) == CUT * WIDTH
    assert displacement(one, blank) == CUT * WIDTH
    assert displacement(blank, one) == 0


@pytest.mark.parametrize("scale", [1.5, 2.5])
def test_large_frames_give_the_same_motion_in_widths(tmp_path: Path, scale: float) -> None:
    wall = texture(1100)
    width = int(400 * scale)
    frames = [wall[:300, start : start + width] for start in range(0, 100, 20)]
    found = analyse(write_video(tmp_path / "a.avi", frames), progress=False)
    assert_allclose(found.motion[1:], 20 / width, rtol=0.02)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "empty.avi").touch()
    for name, message in (("none.mp4", "no such file"), ("text.mp4", "not a video"), ("empty.avi", "not a video")):
        with pytest.raises(ImageError, match=message) as caught:
            analyse(tmp_path / name, progress=False)
        assert str(tmp_path / name) in str(caught.value)
