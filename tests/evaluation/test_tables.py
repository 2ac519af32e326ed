import csv
import sys

import numpy as np
import pytest
from PIL import Image

from posfeat_hloc.evaluation.homography import MmaResult
from posfeat_hloc.evaluation.published import published_mma
from posfeat_hloc.evaluation.tables import Column, Table, plot_mma

TABLE = Table(
    [Column("feature"), Column("MMA@1", ".3f"), Column("points")],
    [["d2d_x", 0.12345678, 7], ["sift & 100%", None, 12000]],
)


def test_text_aligns_numbers_to_the_right():
    assert TABLE.as_text().splitlines() == [
        "feature      MMA@1  points",
        "-----------  -----  ------",
        "d2d_x        0.123       7",
        "sift & 100%      \N{EN DASH}   12000",
    ]


def test_csv_has_all_digits_and_no_dashes(tmp_path):
    TABLE.write(tmp_path, "t")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["feature", "MMA@1", "points"], ["d2d_x", "0.12345678", "7"], ["sift & 100%", "", "12000"]]


def test_latex_escapes_what_latex_would_read(tmp_path):
    TABLE.write(tmp_path, "t")
    assert (tmp_path / "t.tex").read_text().splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"feature & MMA@1 & points \\",
        r"\midrule",
        r"d2d\_x & 0.123 & 7 \\",
        r"sift \& 100\% & -- & 12000 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


OURS = {"mine": MmaResult({"overall": np.linspace(0.2, 0.9, 10), "viewpoint": np.linspace(0.1, 0.8, 10)}, 100, 50, {})}


def test_a_panel_for_each_measured_group_and_a_legend_of_all(tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure", reason="plots need matplotlib")
    drawn = []
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda figure, path, dpi: drawn.append(figure))
    assert plot_mma(tmp_path / "p.png", OURS, published_mma(), "a title") == ""
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["overall", "viewpoint"]
    for axes, group in zip(figure.axes, ("overall", "viewpoint"), strict=True):
        assert len(axes.lines) == 15
        assert axes.get_xlabel() == "threshold [px]"
        mine = next(line for line in axes.lines if line.get_label().startswith("mine"))
        np.testing.assert_allclose(mine.get_ydata(), OURS["mine"].curves[group])
        assert mine.get_linestyle() == "-"
        assert sum(line.get_linestyle() in ("--", "-.", ":") for line in axes.lines) == 14
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "mine  (100 / 50)"
    assert "PoSFeat  (8192 / 4275)" in labels


def test_the_file_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    assert plot_mma(tmp_path / "p.png", OURS, {}, "a title") == ""
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 500
    assert (pixels != 255).any(axis=2).mean() > 0.02


def test_without_matplotlib_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "posfeat-hloc[plot]" in plot_mma(tmp_path / "p.png", OURS, {}, "a title")
    assert not (tmp_path / "p.png").exists()
