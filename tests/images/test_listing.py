"""Which files are photographs: never what a run has made, nor masks, thumbnails or copies; what is left out is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.extract_features import read_names
from posfeat_hloc.images.listing import check_copies, natural_order, survey


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


PHOTOS = ["a.jpg", "b.jpg", "more/c.jpg"]
RESULTS = ["summary.json", "features.h5", "report/plot.png", "report/0/keypoints.jpg", "images/frame.jpg"]


def test_results_of_runs_are_no_photographs(tmp_path: Path) -> None:
    touch(tmp_path, *PHOTOS, *(f"outputs/photos/{name}" for name in RESULTS))
    listing = survey(tmp_path)
    assert listing.names == PHOTOS
    assert listing.about_left_out() == "3 images in outputs/photos (results of a run)"


def test_an_output_folder_is_left_out_before_anything_is_in_it(tmp_path: Path) -> None:
    touch(tmp_path, *PHOTOS, "results/report/plot.png", "masks of mine/a.jpg.png")
    listing = survey(tmp_path, {tmp_path / "results": "the output folder", tmp_path / "masks of mine": "masks"})
    assert listing.names == PHOTOS
    assert listing.left_out == {"in results (the output folder)": 1, "in masks of mine (masks)": 1}


@pytest.mark.parametrize("known", [True, False])
def test_images_and_output_in_one_folder(tmp_path: Path, known: bool) -> None:
    touch(tmp_path, *PHOTOS, "summary.json", "report/plot.png", "export/x.png", *([] if known else ["features.h5"]))
    listing = survey(tmp_path, {tmp_path: "the output folder"} if known else {})
    assert listing.names == PHOTOS
    assert listing.left_out.total() == 2


def test_a_folder_called_report_is_not_always_ours(tmp_path: Path) -> None:
    touch(tmp_path, "report/a.jpg", "video/b.jpg")
    assert survey(tmp_path).names == ["report/a.jpg", "video/b.jpg"]


def test_folders_of_systems_and_hidden_ones(tmp_path: Path) -> None:
    others = [
        "@eaDir/a.jpg/SYNO.jpg",
        "more/@eaDir/c.jpg",
        ".thumbs/a.jpg",
        "._a.jpg",
        "__MACOSX/a.jpg",
        "#recycle/d.jpg",
    ]
    touch(tmp_path, *PHOTOS, *others)
    listing = survey(tmp_path)
    assert listing.names == PHOTOS
    assert listing.left_out.total() == len(others)
    assert "2 images in @eaDir (a file server's or file manager's own folder)" in listing.about_left_out()


def test_masks_that_were_not_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.jpg.png", "masks/b.png")
    listing = survey(tmp_path)
    assert listing.names == ["images/a.jpg", "images/b.jpg"]
    assert "2 images in masks (named as masks of the others: masks=" in listing.about_left_out()
    touch(tmp_path / "carnival", "masks/venice.jpg", "masks/rio.jpg", "a.jpg")
    assert len(survey(tmp_path / "carnival").names) == 3


def test_masks_beside_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.mask.png", "b.png", "b.png.mask.png", "c.jpg", "c_mask.png", "d.mask.png", "e_mask.jpg")
    listing = survey(tmp_path)
    assert listing.names == ["a.jpg", "b.png", "c.jpg", "d.mask.png", "e_mask.jpg"]  # nothing is known of d and e
    assert "3 images named as masks of images beside them, such as a.mask.png" in listing.about_left_out()


def test_other_kinds_are_counted_with_what_helps(tmp_path: Path) -> None:
    touch(tmp_path, *PHOTOS, "d.DNG", "e.cr3", "f.MP4", "notes.txt", "g.exr", "x.jpg.part")
    told = survey(tmp_path).about_others()
    assert told.startswith(
        "6 files of other kinds ignored: 2 raw photographs (.cr3 .dng): develop them to JPEG or TIFF"
    )
    assert "1 videos (.mp4): video of sfm takes them" in told
    assert "1 .txt" in told
    (tmp_path / "only").mkdir()
    touch(tmp_path / "only", "a.dng")
    with pytest.raises(ConfigurationError, match=r"no images.*1 raw photographs \(\.dng\): develop"):
        survey(tmp_path / "only")


def picture(folder: Path, name: str, seed: int, size: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (12, 18, 3), dtype=np.uint8)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).resize((size, size * 2 // 3), Image.Resampling.BICUBIC).save(folder / name)


@pytest.mark.parametrize("copies", ["images_2", "images_2_png"])
def test_copies_of_the_same_names_are_asked_about(tmp_path: Path, copies: str) -> None:
    for i in range(4):
        picture(tmp_path, f"images/{i}.jpg", i, 240)
        picture(tmp_path, f"{copies}/{i}.{'png' if 'png' in copies else 'jpg'}", i, 120)
    with pytest.raises(ConfigurationError, match=f"images and {copies} hold the same 4 photographs.*choose one"):
        check_copies(tmp_path, survey(tmp_path).names)


def test_thumbnails_are_copies(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path, f"{i}.jpg", i, 240)
        picture(tmp_path, f"thumbs/{i}.jpg", i, 90)
    with pytest.raises(ConfigurationError, match="the folder itself and thumbs"):
        check_copies(tmp_path, survey(tmp_path).names)


def test_cameras_side_by_side_are_no_copies(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path, f"cam_1/{i}.jpg", i, 240)
        picture(tmp_path, f"cam_2/{i}.jpg", 10 + i, 120)
        picture(tmp_path, f"left/{i}.jpg", i, 240)
        picture(tmp_path, f"right/{i}.jpg", i, 120)
    check_copies(tmp_path, survey(tmp_path).names)


@pytest.mark.parametrize(
    "names",
    [
        ["frame_2.jpg", "frame_10.jpg", "frame_100.jpg"],
        ["a/9.jpg", "a/10.jpg", "a10/1.jpg"],
        ["cam2/10.jpg", "cam10/2.jpg"],
        ["7.jpg", "10.jpg", "a.jpg"],
        ["f01.jpg", "f1.jpg", "f2.jpg", "f02b.jpg"],
        ["1.10.jpg", "2.9.jpg"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    shuffled = names[1:] + names[:1]
    assert sorted(shuffled, key=natural_order) == names


@given(st.lists(st.text("a1029/_.²٣é#", max_size=6)))
def test_natural_order_is_an_order_of_any_names(names: list[str]) -> None:
    assert sorted(sorted(names), key=natural_order) == sorted(sorted(names, reverse=True), key=natural_order)


def test_lists_of_names_that_begin_with_a_number_sign(tmp_path: Path) -> None:
    touch(tmp_path, "#1.jpg", "#2 b.jpg", "a:3.jpg")
    path = tmp_path / "list.txt"
    path.write_text("# a comment\n#1.jpg\n#2 b.jpg\n#gone.jpg\na:3.jpg\nlater.jpg\n")
    assert read_names(path, tmp_path) == ["#1.jpg", "#2 b.jpg", "a:3.jpg", "later.jpg"]
