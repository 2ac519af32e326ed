"""Frames on disk: which, under which names, what a second call does, and what a changed one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, ImageError
from posfeat_hloc.images import video as module
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.images.video import VideoFrames, extract_frames
from tests.images.video_scenes import slide, write_video


def run(folder: Path, *names: str, **options: float) -> VideoFrames:
    videos = [folder / f"{name}.avi" for name in names]
    return extract_frames(videos, folder / "images", folder / "seen", progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Videos of 41 frames that move by 4 of 160 pixels each, and of 21 frames by 8."""
    write_video(tmp_path / "walk.avi", slide(range(0, 164, 4), blurred=[0, 5, 10]))
    write_video(tmp_path / "run.avi", slide(range(0, 168, 8), seed=1))
    return tmp_path


def test_frames_are_named_by_their_numbers_and_hold_their_pictures(walk: Path) -> None:
    found = run(walk, "walk", step=0.25)  # ten frames
    assert found.names == list_images(walk / "images")
    numbers = [int(name[5:11]) for name in found.names]
    assert set(numbers).isdisjoint([0, 5, 10])  # the shaken ones
    assert all(10 <= b - a <= 15 for a, b in itertools.pairwise(numbers))
    expected = slide(range(0, 164, 4))
    for name, number in zip(found.names, numbers, strict=True):
        pixels = np.asarray(Image.open(walk / "images" / name).convert("L"), float)
        assert np.abs(pixels - expected[number]).mean() < 3  # JPEG twice
    assert (found.watched, found.written, found.incomplete) == (41, len(numbers), {})


def test_a_second_call_writes_nothing_and_a_deleted_frame_comes_back(walk: Path) -> None:
    first = run(walk, "walk", "run")
    assert {name.split("/")[0] for name in first.names} == {"walk", "run"}
    times = {name: (walk / "images" / name).stat().st_mtime_ns for name in first.names}
    content = (walk / "images" / first.names[1]).read_bytes()
    again = run(walk, "walk", "run")
    assert (again.names, again.written) == (first.names, 0)
    (walk / "images" / first.names[1]).unlink()
    assert run(walk, "walk", "run").written == 1
    assert (walk / "images" / first.names[1]).read_bytes() == content
    del times[first.names[1]]
    assert {name: (walk / "images" / name).stat().st_mtime_ns for name in times} == times


def test_frames_that_are_not_chosen_any_more_are_removed(walk: Path) -> None:
    many = run(walk, "walk", "run", step=0.1)
    few = run(walk, "walk", "run", step=0.1, count=8)
    assert len(few.names) <= 8 < len(many.names)
    assert few.step > many.step == 0.1
    assert list_images(walk / "images") == sorted(few.names)
    one = run(walk, "run", step=0.1)
    assert list_images(walk / "images") == one.names
    assert [file.name for file in (walk / "seen").iterdir()] == ["run.json"]


def test_a_replaced_video_is_watched_again(walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run(walk, "walk", step=0.25)
    pixels = (walk / "images" / before.names[-1]).read_bytes()
    write_video(walk / "walk.avi", slide(range(0, 160, 4), seed=3))
    after = run(walk, "walk", step=0.25)
    assert after.watched == 40
    assert all((walk / "images" / name).read_bytes() != pixels for name in after.names)
    monkeypatch.setattr(module, "analyse", lambda *_: pytest.fail("watched again"))
    run(walk, "walk", step=0.5)


def test_a_killed_call_leaves_whole_frames_and_goes_on(walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(walk, "walk")
    expected = {name: (walk / "images" / name).read_bytes() for name in whole.names}
    for name in whole.names:
        (walk / "images" / name).unlink()
    writes = iter(range(3))
    replace = module.os.replace

    def killed(source: Path, target: Path) -> None:
        if next(writes, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run(walk, "walk")
    monkeypatch.undo()
    assert list_images(walk / "images") == whole.names[:3]
    assert run(walk, "walk").written == len(whole.names) - 3
    assert {name: (walk / "images" / name).read_bytes() for name in list_images(walk / "images")} == expected


def test_files_of_others_stay(walk: Path) -> None:
    (walk / "images/walk").mkdir(parents=True)
    Image.new("L", (9, 9)).save(walk / "images/walk/mine.jpg")
    run(walk, "walk")
    run(walk, "run")
    assert (walk / "images/walk/mine.jpg").exists()
    assert "walk/000001.jpg" not in list_images(walk / "images")


def test_a_video_that_breaks_off_is_used_and_reported(walk: Path) -> None:
    content = (walk / "walk.avi").read_bytes()
    (walk / "walk.avi").write_bytes(content[: len(content) // 2])
    found = run(walk, "walk")
    assert len(found.names) > 1
    assert found.incomplete == {str(walk / "walk.avi"): f"breaks off after {found.watched} of 41 frames"}


def test_bad_input_is_named(walk: Path) -> None:
    (walk / "text.avi").write_text("no video")
    with pytest.raises(ImageError, match=r"text\.avi: not a video"):
        run(walk, "walk", "text")
    with pytest.raises(ConfigurationError, match="two videos are called 'walk'"):
        run(walk, "walk", "sub/walk")
