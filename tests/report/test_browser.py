"""The page in a browser: nothing fails, nothing is wider than the window."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

pytest.importorskip("plotly", reason='the report needs pip install ".[report]"')
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from posfeat_hloc.report import scene
from posfeat_hloc.report.page import DASH, Facts, Page, Picture, Rows, Section, Text, render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

OBSERVER = """<!doctype html><body><script>
const found = {};
for (const width of [400, 1400]) {
  const frame = document.createElement('iframe');
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = 'report.html';
  frame.onload = () => setTimeout(() => {
    const page = frame.contentDocument;
    const table = [...page.querySelectorAll('table')].find((t) => t.textContent.includes('keypoints'));
    const column = () => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent.trim());
    const orders = [0, 1].map(() => { table.querySelectorAll('th button')[1].click(); return column(); });
    page.getElementById('model-0').emit('plotly_click', {points: [{curveNumber: 0, pointNumber: 0}]});
    found[width] = {scroll: page.documentElement.scrollWidth, plots: page.querySelectorAll('.main-svg').length,
      orders, links: [...page.querySelectorAll('.seen a')].map((a) => a.getAttribute('href'))};
    if (Object.keys(found).length == 2) document.title = JSON.stringify(found);
  }, 1500);
  document.body.append(frame);
}
</script></body>"""


def page() -> Page:
    rng = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    for xyz in rng.uniform(-1, 1, (200, 3)):
        model.add_point3D(xyz, pycolmap.Track(), np.array([200, 20, 30], np.uint8))
    poses = {f"image {i}.jpg": pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([i, 0.0, 4.0])) for i in range(5)}
    view = scene.make_scene(model, [scene.Cameras.of_poses(poses, "cameras")])
    long = "a_very_long_name_without_any_place_to_break_it/" * 6
    rows = Rows(["image", "a", "b", "c", "d"], [[long, *["12345678901234567890"] * 4]] * 3)
    anchors = {"image 1.jpg": "image-1"}
    view = replace(view, names=list(poses), seen=[[1, 2]] * len(view.points))
    counts = Rows(["image", "keypoints"], [["image 1.jpg", "900"], ["image 2.jpg", "1000"], ["image 3.jpg", DASH]])
    tile = Picture("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "900 keypoints", title="image 1.jpg", anchor="image-1")
    sections = [
        Section("Points", [scene.interactive(view, "model-0", anchors)]),
        Section("Images", [counts, tile]),
        Section("Long", [Text(long), Text(long, "code"), Text(long, "warning"), rows, Facts([(long, long)])], "grid"),
        Section(long, [rows], folded=True),
    ]
    figures = [("1 of 2", "images"), ("123 456 789", long)]
    return Page(long, "reconstruction", figures, [long], sections, anchors)


def browse(path: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--use-angle=swiftshader",
               "--enable-unsafe-swiftshader", "--allow-file-access-from-files", "--enable-logging=stderr",
               "--window-size=1900,1000", "--virtual-time-budget=9000", f"--user-data-dir={folder}", "--dump-dom",
               path.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_no_errors_and_no_horizontal_scrolling(tmp_path):
    (tmp_path / "report.html").write_text(render(page()), encoding="utf-8")
    (tmp_path / "observer.html").write_text(OBSERVER)
    ended = browse(tmp_path / "observer.html", tmp_path / "profile")
    title = re.search(r"<title>(.*?)</title>", ended.stdout)
    assert title, ended.stderr[-2000:]
    found = json.loads(title[1])
    assert found["400"]["scroll"] <= 400
    assert found["1400"]["scroll"] <= 1400
    assert found["400"]["plots"] > 0  # plotly has drawn
    for width in ("400", "1400"):
        assert found[width]["orders"] == [["\u2013", "900", "1000"], ["1000", "900", "\u2013"]]  # sorted, reversed
        assert found[width]["links"] == ["#image-1"]  # of the two images of a clicked point, the one with a thumbnail
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    harmless = ("willReadFrequently",)  # advice of the browser to plotly about speed
    assert [line for line in console if not any(word in line for word in harmless)] == []
