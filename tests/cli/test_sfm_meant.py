"""Command lines that say it in other words, and what is said before the work begins."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.cli.arguments import flag
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.cli.sfm import as_text, pairs_meant
from posfeat_hloc.errors import ConfigurationError, wording
from posfeat_hloc.report.sections import command_line
from posfeat_hloc.runtime.reporter import Terminal, counted, entry, listing
from posfeat_hloc.sfm.choices import choose_cameras, choose_default_pairs, default_pairs, only_size_without_exif
from posfeat_hloc.sfm.database import DatabaseReport
from posfeat_hloc.sfm.diagnosis.diagnose import Diagnosis
from posfeat_hloc.sfm.inputs import image_names
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.models import ModelSummary
from posfeat_hloc.sfm.options import SfmOptions
from posfeat_hloc.sfm.pipeline import start
from posfeat_hloc.sfm.summary import SfmResult, as_json

Output = pytest.CaptureFixture[str]


def write(folder: Path, *names: str, size: tuple[int, int] = (40, 30), focal: float | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    exif = Image.Exif()
    if focal is not None:
        exif.get_ifd(0x8769)[0x920A] = focal
    for name in names:
        Image.new("L", size).save(folder / name, exif=exif)
    return folder


def arguments(*given: str) -> Any:
    return parsed(["sfm", *given])[1]


def test_a_folder_alone_is_the_images() -> None:
    assert arguments("photos").images == arguments("--images", "photos").images == Path("photos")
    with pytest.raises(ConfigurationError, match="a second folder"):
        arguments("photos", "--images", "more")


def test_a_video_as_images_is_the_video(tmp_path: Path, capsys: Output) -> None:
    clip = tmp_path / "Clip.MP4"
    clip.touch()
    found = arguments("--images", str(clip)).options
    assert (found.video, found.pairs, found.camera) == ((clip,), "sequential", "folder")
    assert capsys.readouterr().out == f"note: {clip} is taken as --video\n"


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("a.jpg", "give their folder: --images"),
        ("a.zip", "unpack it"),
        ("l.txt", "--image-list"),
        ("a.pdf", "folder"),
    ],
)
def test_other_files_as_images_are_refused_with_the_cure(name: str, cure: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / name).touch()
    assert sfm.main(["--images", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / name}: is a file")
    assert cure in error
    assert error.count("\n") == 1


def test_no_input_and_two_are_refused() -> None:
    for given, told in (([], "no input"), (["--demo", "--images", "x"], "renders its own")):
        with pytest.raises(ConfigurationError, match=told):
            arguments(*given)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("vocab_tree", "retrieval"), ("vocab_tree_matcher", "retrieval"), ("spatial", "gps"), ("all", "exhaustive"),
        ("Sequential", "sequential"), ("exhaustive_matcher", "exhaustive"),
    ],
)  # fmt: skip
def test_pairs_by_the_names_of_others(text: str, meant: str) -> None:
    assert pairs_meant(text)[0] == meant


def test_pairs_that_are_nothing_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean exhaustive"):
        pairs_meant("exaustive")
    with pytest.raises(ConfigurationError, match="choose from exhaustive, sequential, retrieval, gps, or name a file"):
        pairs_meant("my_list")
    (tmp_path / "all").touch()
    assert pairs_meant(str(tmp_path / "all")) == (str(tmp_path / "all"), "")


def test_camera_models_in_small_letters() -> None:
    assert arguments("x", "--camera-model", "pinhole").options.camera_model == "PINHOLE"


def test_photographs_and_videos_share_a_folder_of_the_run(tmp_path: Path) -> None:
    found = arguments("--images", "photos", "--video", "walk.mp4", "--output", str(tmp_path))
    job = start(found.images, found.output, found.options)
    assert (job.photos, job.images, job.options.camera) == (Path("photos"), tmp_path / "images", "auto")
    assert job.settings.camera.videos == ("walk",)
    again = parsed(shlex.split(command_line("sfm", job.record))[1:])[1]
    assert (again.images, again.output, again.options) == (found.images, found.output, found.options)


def test_more_than_200_images_are_paired_by_similarity() -> None:
    assert default_pairs(200) == ("exhaustive", "")
    chosen, why = default_pairs(1500)
    assert chosen == "retrieval"
    assert why.startswith("1500 images have 1 124 250 pairs")
    assert "pairs=exhaustive" in why


@pytest.mark.parametrize(
    ("sizes", "focal", "told"),
    [
        ([(40, 30)] * 4, None, True), ([(40, 30)] * 3 + [(30, 40)], None, False), ([(40, 30)] * 4, 35.0, False),
        ([(40, 30)] * 2, None, False),
    ],
)  # fmt: skip
def test_camera_single_is_suggested_before_the_run(
    sizes: list[tuple[int, int]], focal: float | None, told: bool, tmp_path: Path, capsys: Output
) -> None:
    names = [f"{i}.jpg" for i in range(len(sizes))]
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        write(tmp_path / "photos", name, size=size, focal=focal if i == 1 else None)
    for given, expected in ((None, told), ("image", False)):
        job = start(tmp_path / "photos", tmp_path, SfmOptions(camera=given), Terminal())  # type: ignore[arg-type]
        with wording(flag):
            choose_default_pairs(job, names)
            choose_cameras(job, names)
        assert job.options.pairs == "exhaustive"
        assert (only_size_without_exif(job.images, names) is not None) == told
        assert ("--camera single" in capsys.readouterr().out) == expected
        assert len(job.result.messages) == expected


def test_a_list_of_images_chooses_and_complains(tmp_path: Path, capsys: Output) -> None:
    photos, chosen = write(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "list.txt"
    chosen.write_text("c.jpg\n\na.jpg\nc.jpg\n")
    assert image_names(Job(photos, tmp_path, SfmOptions(image_list=chosen))) == ["a.jpg", "c.jpg"]
    chosen.write_text("c.jpg\nphotos/a.jpg\n")
    assert sfm.main([str(photos), "--image-list", str(chosen), "--output", str(tmp_path / "out")]) == 1
    assert "'photos/a.jpg' is not in" in (error := capsys.readouterr().err)
    assert "(1 of 2 names; one is written like 'a.jpg')" in error


def test_reasons_of_many_files_are_counted() -> None:
    reasons = {f"{i}.jpg": f"/photos/{i}.jpg: the file is empty" for i in range(250)}
    reasons |= {f"x/{i}.png": f"/photos/x/{i}.png: not an image that can be decoded" for i in range(50)}
    assert counted(reasons) == (
        "250 times: the file is empty (such as 0.jpg); 50 times: not an image that can be decoded (such as x/0.png)"
    )
    lines = listing("could not be read", reasons)
    assert lines[0] == "  could not be read (300)"
    assert " ".join(" ".join(lines[1:]).split()) == counted(reasons)
    assert max(map(len, lines)) <= 80
    few = {"a.jpg": "empty", "b.jpg": "gone"}
    assert listing("skipped", few) == ["  skipped (2)", "    a.jpg: empty", "    b.jpg: gone"]
    (line,) = entry("likely cause", "x" * 50 + " --camera single")[1:]
    assert line == " " * 22 + "--camera single"
    assert counted({"a.jpg": "a.jpg: empty", "b.jpg": "b.jpg: gone"}) == "a.jpg: empty; b.jpg: gone"


def test_300_files_that_are_none_end_with_one_short_line(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(300):
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(b"" if i % 3 else b"text")
    given = [str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--feature", "sift", "--quiet"]
    assert sfm.main(given) == 1
    error = capsys.readouterr().err
    assert "200 times: the file is empty" in error
    assert "100 times: not an image that can be decoded" in error
    assert len(error) < 400


def test_what_was_told_is_in_the_summary(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (60, 80), np.uint8)).save(photos / f"{i}.png")
    sfm.main([str(photos), "--output", str(tmp_path / "out"), "--feature", "sift", "--quiet"])
    found = json.loads((tmp_path / "out/summary.json").read_text())
    assert "--camera single" in found["messages"][0]
    assert found["command"]["pairs"] == "exhaustive"


def test_focal_lengths_too_far_apart_are_told_with_what_to_try() -> None:
    run = SfmResult(images=3, diagnosis=Diagnosis(focal_lengths=(591.4, 678.0)))
    with wording(flag):
        text = " ".join(as_text(run, "sift", Path("photos"), Path("out")).split())
    assert "focal lengths 591 to 678 px, estimated image by image" in text
    assert "--camera single" in text
    assert as_json(run, {})["focal_lengths_apart"] == (591.4, 678.0)
    assert "focal lengths" not in as_text(SfmResult(images=3), "sift", Path("photos"), Path("out"))


def test_the_summary_fits_a_terminal_of_80_by_24_however_much_went_wrong() -> None:
    model = ModelSummary("outputs/a_rather_long_name/sparse/0", 60, 123456, 400000, 3.24, 3.2, 0.512)
    files = {
        f"folder/photograph_{i:04}.jpg": "the file is truncated, and nothing of it can be decoded" for i in range(40)
    }
    run = SfmResult(
        images=100, pairs=4950, models=[model], database=DatabaseReport(98, 1, 4900, 1700, {}, 90000),
        diagnosis=Diagnosis(reasons=dict.fromkeys(files, "matched with no other image")),
        seconds=dict.fromkeys(("orient", "describe", "extract", "match", "verify", "map"), 12.3),
    )  # fmt: skip
    run.extraction.skipped.update(files)
    lines = as_text(run, "posfeat-small", Path("photos"), Path("outputs/a_rather_long_name")).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    (count,) = [line for line in lines if "could not be read" in line]
    assert count.endswith("(40)")
    assert "    40 times: the file is truncated" in "\n".join(lines)
