"""Sharpness and motion of frames whose motion is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.images.video_motion import CUT, Analysis, analyse, choose_frames, displacement, step_for, step_to_get
from tests.images.video_scenes import WIDTH, slide, write_video
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


FRAMES = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 0.3)), min_size=1, max_size=60)


def analysis(frames: list[tuple[float, float]]) -> Analysis:
    sharpness, motion = np.array(frames).T
    motion[0] = 0
    return Analysis(sharpness, motion)


def test_one_frame_a_step_and_the_sharpest_of_its_window() -> None:
    motion = np.full(41, 0.05)
    motion[0] = 0
    sharpness = np.ones(41)
    sharpness[[1, 12]] = 2
    # windows of 0.125 widths: frames 0 to 2, then from 1 + 5 on 6 to 8, 11 to 13, 17 to 19, ...
    assert choose_frames(Analysis(sharpness, motion), 0.25)[:4] == [1, 6, 12, 17]


def test_a_camera_that_stands_still_gives_one_frame() -> None:
    assert choose_frames(Analysis(np.array([1.0, 3.0, 2.0]), np.zeros(3)), 0.1) == [1]


@given(frames=FRAMES, step=st.floats(0.01, 1))
def test_steps_are_kept_and_sharpness_decides(frames: list[tuple[float, float]], step: float) -> None:
    given_ = analysis(frames)
    travelled = np.cumsum(given_.motion)
    chosen = choose_frames(given_, step)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= 1 + travelled[-1] / step + 1e-6
    slack = 1e-9
    for one, following in itertools.pairwise(chosen):
        moved = travelled[following] - travelled[one]
        assert moved >= step - slack
        opens = next(i for i in range(one + 1, len(frames)) if travelled[i] >= travelled[one] + step - slack)
        assert travelled[following] <= travelled[opens] + step / 2 + slack
        assert given_.sharpness[following] >= given_.sharpness[opens]
    assert travelled[-1] - travelled[chosen[-1]] < step + slack  # nothing is left out at the end


@given(videos=st.lists(FRAMES, min_size=1, max_size=4), step=st.floats(0.001, 1), extra=st.integers(0, 40))
def test_never_more_frames_than_asked_for(videos: list[list[tuple[float, float]]], step: float, extra: int) -> None:
    analyses = [analysis(frames) for frames in videos]
    count = 2 * len(videos) + extra
    found = step_for([a.motion for a in analyses], step, count)
    assert found >= step
    assert sum(len(choose_frames(a, found)) for a in analyses) <= count


@settings(max_examples=15)
@given(videos=st.lists(FRAMES, min_size=1, max_size=4), extra=st.integers(0, 40))
def test_a_number_of_frames_is_a_target(videos: list[list[tuple[float, float]]], extra: int) -> None:
    """Never more; and a step smaller by a thousandth would give more, if there are more frames."""
    analyses = [analysis(frames) for frames in videos]
    count = 2 * len(videos) + extra
    step = step_to_get(analyses, count)
    found = [sum(len(choose_frames(a, s)) for a in analyses) for s in (step, step * 0.999)]
    assert found[0] <= count
    largest = sum(a.motion.sum() for a in analyses) / (count - len(videos))
    assert found[1] > count or step <= largest / 7.99 or step == 1


def test_a_slow_video_gives_the_frames_that_are_asked_for() -> None:
    slow = Analysis(np.ones(600), np.full(600, 0.001), 600)
    step = step_to_get([slow], 100)
    assert 90 <= len(choose_frames(slow, step)) <= 100
    assert len(choose_frames(slow, step_for([slow.motion], 0.03, 100))) < 25  # what --frames gave before


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least two"):
        step_for([np.zeros(3)], 0.1, 1)
    with pytest.raises(ConfigurationError, match="positive"):
        step_for([np.zeros(3)], 0, 10)
