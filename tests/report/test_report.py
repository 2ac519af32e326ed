"""The page of a reconstruction: from a finished run, from what is left of one, and from nothing."""

import json
import re
import shlex
import shutil
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("plotly", reason='the report needs pip install ".[report]"')
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from pipelines import sfm
from posfeat_hloc.__main__ import main
from posfeat_hloc.cli import report as hook
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.features import Features
from posfeat_hloc.report.page import write_report
from posfeat_hloc.report.sections import command_line
from posfeat_hloc.sfm.pipeline import start
from posfeat_hloc.stores import FeatureStore
from tests.rendering import write_scene

PLOTS = ("model_0", "match_graph", "pair_inliers", "inlier_ratio", "track_length", "reprojection_error", "keypoints",
         "stage_times")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of six views and one that shows nothing."""
    folder = tmp_path_factory.mktemp("run")
    write_scene(folder / "photos", 6)
    Image.fromarray(np.full((300, 400), 90, np.uint8)).save(folder / "photos/z <b>&.png")
    arguments = ["--images", str(folder / "photos"), "--output", str(folder / "out"), "--feature", "sift", "--quiet"]
    arguments += ["--max-keypoints", "800"]
    assert sfm.main([*arguments, "--no-report", "--threads", "1"]) == 0
    assert not (folder / "out/report.html").exists()
    return folder


@pytest.fixture
def output(run, tmp_path):
    """A copy of the run's output that may be spoiled."""
    return shutil.copytree(run / "out", tmp_path / "out")


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """A copy of the output, its page, and its files as they were before the page."""
    output = shutil.copytree(run / "out", tmp_path_factory.mktemp("written") / "out")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in output.rglob("*") if p.is_file()}
    return output, page_of(output), before


def page_of(output, images=None):
    path = write_report(output, images)
    assert path == output / "report.html"
    return path.read_text(encoding="utf-8")


def text_of(html):
    """The page without scripts, styles and pictures."""
    return re.sub(r"(?s)<script.*?</script>|<style.*?</style>|src=\"data:[^\"]*\"", "", html)


def test_a_finished_run(written):
    output, html, _ = written
    summary = json.loads((output / "summary.json").read_text())
    text = text_of(html)
    assert "6 of 7" in text
    assert f"{summary['model']['reprojection_error']:.2f} px" in text
    assert f"{summary['verified_pairs']} of {summary['pairs']}" in text
    assert "Likely cause for 1 image: blank image. Leave it out, or take it again" in text
    for title in ("3D points and cameras", "Match graph", "Best and worst pairs", "Photographs and keypoints",
                  "Distributions", "Time", "To repeat this run", "1 images are isolated"):  # fmt: skip
        assert title in text
    assert "z &lt;b&gt;&amp;.png" in text
    assert "<b>&" not in html
    assert re.search(r'showImagesOfPoints\("model-0", \[.*\], \{.*"image-0".*\}\)', html)
    for number in range(7):
        assert f'<figure id="image-{number}">' in html
        assert f'<a href="#image-{number}">' in html  # in the table of all images
    assert "Score maps" not in text  # SIFT has none
    for plot in PLOTS:
        with Image.open(output / f"report/{plot}.png") as picture:
            assert min(picture.size) > 200
    assert html.count('src="data:image/jpeg') == 6 + 7  # pairs, and photographs


def test_the_page_loads_nothing(written):
    html = written[1]
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=\"(?!data:)|@import|<img[^>]+src=\"(?!data:)", html)
    assert len(html) < 8e6
    assert html.count("Plotly.newPlot(") >= 2


def test_writing_again_gives_the_same_page(written):
    assert page_of(written[0]) == written[1]


def test_nothing_else_of_the_output_is_touched(written):
    output, _, before = written
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    new = {p.relative_to(output).parts[0] for p in output.rglob("*") if p.is_file() and p not in before}
    assert new == {"report", "report.html"}


def test_photographs_that_have_moved(run, output):
    summary = json.loads((output / "summary.json").read_text())
    summary["command"]["images"] = "/nowhere/photos"
    (output / "summary.json").write_text(json.dumps(summary))
    text = text_of(page_of(output))
    assert "The photographs are not at /nowhere/photos: images are left out. Give their folder by images." in text
    assert "Match graph" in text
    assert "Photographs and keypoints" in text_of(page_of(output, run / "photos"))


@pytest.mark.parametrize(
    ("gone", "said", "left_out"),
    [
        (["summary.json"], "The run has not finished", "To the last digit"),
        (["summary.json", "sparse"], "There is no model.", "Points and cameras"),
        (["summary.json", "sparse", "database.db"], "The run has not finished", "Match graph"),
        (["features.h5", "matches.h5"], "Match graph", "Photographs and keypoints"),
    ],
)
def test_what_is_left_of_a_run(output, gone, said, left_out):
    for name in gone:
        shutil.rmtree(output / name) if (output / name).is_dir() else (output / name).unlink()
    text = text_of(page_of(output))
    assert said in text
    assert left_out not in text


@pytest.mark.parametrize("name", ["summary.json", "database.db", "features.h5"])
def test_damaged_files_are_named(output, name):
    (output / name).write_bytes((output / name).read_bytes()[:200])
    text = text_of(page_of(output))
    assert name in text
    assert "cannot be read" in text or "damaged" in text
    assert "To repeat this run" in text


def test_a_model_that_lacks_a_file_is_named(output):
    (output / "sparse/0/points3D.bin").unlink()
    text = text_of(page_of(output))
    assert "sparse/0: no COLMAP model can be read" in text
    assert "Match graph" in text


def test_an_empty_folder(tmp_path, capsys):
    html = page_of(tmp_path)
    assert "holds no results" in html
    assert len(html) < 20_000  # plotly is not there for nothing
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "none: no such folder" in capsys.readouterr().err


def test_a_hundred_photographs_stay_below_ten_megabytes(tmp_path):
    write_scene(tmp_path / "photos", 1)
    first = Image.open(tmp_path / "photos/view_00.png").resize((800, 600))
    first.convert("RGB").save(tmp_path / "first.jpg")
    (tmp_path / "photos/view_00.png").unlink()
    rng = np.random.default_rng(0)
    found = Features(
        rng.uniform(0, 600, (500, 2)).astype(np.float32), np.ones(500, np.float32), np.zeros((500, 8), np.float32)
    )
    (tmp_path / "out").mkdir()
    with FeatureStore(tmp_path / "out/features.h5", {"model": {"name": "test"}}) as store:
        for i in range(130):
            (tmp_path / f"photos/{i:03}.jpg").hardlink_to(tmp_path / "first.jpg")
            store.write(f"{i:03}.jpg", found, (800, 600))
        store.commit()
    (tmp_path / "out/summary.json").write_text('{"images": 130}')
    html = page_of(tmp_path / "out", tmp_path / "photos")
    assert html.count('src="data:image/jpeg') == 65  # every second of 130
    assert "65 of 130 photographs are shown" in html
    assert len(html) * 100 / 65 + 5e6 < 10e6  # with plotly


def test_the_command_says_what_was_done():
    given = ["--images", "my photos", "--pairs", "sequential", "--camera", "single", "--camera-model", "PINHOLE"]
    given += ["--camera-params", "500,500.5,320,240", "--max-size", "800"]
    args = parsed(["sfm", *given])[1]
    line = shlex.split(command_line("sfm", start(args.images, args.output, args.options).record))
    assert line[:2] == ["posfeat-hloc", "sfm"]
    again = parsed(line[1:])[1]
    assert (again.images, again.output, again.options) == (args.images, args.output, args.options)


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("posfeat_hloc.cli.report.NEEDED", ("jinja2", "no_such_package"))
    page, line = hook.write_page(tmp_path, Namespace(no_report=False))
    assert page == {"report": None}
    assert line == '\n  report              not written: no_such_package not installed (pip install ".[report]")'
    assert main(["report", str(tmp_path)]) == 1
    assert 'pip install ".[report]"' in capsys.readouterr().err


def test_a_run_ends_with_its_page(output):
    page, line = hook.write_page(output, Namespace(no_report=False))
    assert page == {"report": str(output / "report.html")}
    assert line == f"\n  report              {output / 'report.html'}"
    assert (output / "report.html").stat().st_size > 4e6


def test_a_page_that_fails_does_not_spoil_the_run(tmp_path):
    page, line = hook.write_page(tmp_path / "none", Namespace(no_report=False))
    assert page == {"report": None}
    assert "report              not written: ConfigurationError" in line
    assert hook.write_page(tmp_path, Namespace(no_report=True)) == ({"report": None}, "")
