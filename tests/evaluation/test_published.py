"""The published numbers, and docs/results.md, which repeats them and must not drift from them."""

import re
from pathlib import Path

import numpy as np
import pytest

from posfeat_hloc.evaluation.published import published_cell, published_mma, published_models

TABLE_1 = {  # PoSFeat Table 1: MMAscore overall, illumination, viewpoint
    "PoSFeat": (0.775, 0.826, 0.728), "DISK (8k)": (0.763, 0.813, 0.716), "ASLFeat": (0.739, 0.795, 0.687),
    "R2D2": (0.695, 0.727, 0.665), "D2-Net": (0.519, 0.605, 0.440), "DELF": (0.571, 0.903, 0.262),
    "SuperPoint": (0.658, 0.715, 0.606), "SIFT + CAPS": (0.699, 0.764, 0.639), "HAN + HardNet++": (0.633, 0.634, 0.633),
    "SIFT + ContextDesc": (0.636, 0.613, 0.657),
}  # fmt: skip


@pytest.mark.parametrize("method", TABLE_1)
def test_our_score_of_the_published_curves_is_the_published_score(method):
    result = published_mma()[method]
    scores = [result.score(group) for group in ("overall", "illumination", "viewpoint")]
    assert np.round(scores, 3).tolist() == list(TABLE_1[method])


def test_curves_rise_and_groups_make_up_the_whole():
    curves = published_mma()
    assert len(curves) == 14
    for result in curves.values():
        assert all(len(curve) == 10 and (np.diff(curve) >= 0).all() for curve in result.curves.values())
        mixed = (52 * result.curves["illumination"] + 56 * result.curves["viewpoint"]) / 108
        np.testing.assert_allclose(result.curves["overall"], mixed, atol=2e-5)
        assert result.keypoints > result.matches > 0


def test_published_models_are_found_by_the_letters_of_a_name():
    rows = {row.method: row for row in published_models("fountain-P11")}
    assert len(rows) == 5
    assert (rows["HardNet+D2D"].points, rows["HardNet+D2D"].track_length) == (20_000, 6.27)
    assert rows["SIFT"].dense_points == 292_000
    south = published_models("South-Building")
    assert [row.method for row in south if row.paper == "PoSFeat Table 3"][-1] == "PoSFeat"
    assert len(south) == 11
    assert published_models("Tower_of_London")[-1].points == 262_000
    assert published_models("door") == []
    for name in ("Fountain", "Herzjesu", "South Building", "Madrid Metropolis", "Gendarmenmarkt", "Tower of London"):
        for row in published_models(name):
            assert 0 < row.registered <= row.images


def test_ablation_tables():
    """D2D's two terms together are better than either alone for each network; the diagonal of Table 5 is one."""
    networks = ("SuperPoint", "D2-Net", "HardNet", "SOSNet")
    for network in networks:
        one, other, both = (published_cell("D2D Table 3", t, network) for t in ("absolute", "relative", "both"))
        assert max(one, other) < both
        assert published_cell("D2D Table 5", network, network) == 1
    assert published_cell("D2D Table 5", "D2-Net", "SuperPoint") == 1.136  # destination, source
    assert max(
        (published_cell("PoSFeat Table 4", n, w), n, w) for n in ("75", "100", "125") for w in ("0.075", "0.1", "0.125")
    ) == (0.7748, "100", "0.1")
    assert published_cell("PoSFeat Table 4", "50", "0.1") is None


PAGE = (Path(__file__).parents[2] / "docs/results.md").read_text(encoding="utf-8")
NETWORKS = ("SuperPoint", "D2-Net", "HardNet", "SOSNet")
SETS = ("Fountain", "Herzjesu", "South Building", "Madrid Metropolis", "Gendarmenmarkt", "Tower of London")


@pytest.mark.parametrize("dataset", SETS)
def test_rows_of_reconstructions_are_those_of_the_data_file(dataset):
    section = PAGE.split(f"### {dataset}, ")[1].split("\n#")[0]
    cells = re.findall(r"(\d+), (\d+) k, ([\d.]+), ([\d.]+)", section)
    found = sorted((int(n), 1000 * int(k), float(track), float(error)) for n, k, track, error in cells)
    rows = published_models(dataset)
    assert found == sorted((r.registered, r.points, r.track_length, r.reprojection_error) for r in rows)
    for row in rows:
        assert re.search(rf"\| .*{re.escape(row.method)}", section), row.method


def test_every_table_of_the_papers_is_there():
    for table in ("PoSFeat Table 1", "PoSFeat Table 2", "PoSFeat Table 3", "PoSFeat Table 4", "D2D Tables 1 and 4",
                  "D2D Table 2", "D2D Table 3", "D2D Table 5"):  # fmt: skip
        assert table in PAGE


@pytest.mark.parametrize(
    ("heading", "table", "rows"),
    [
        (
            "Absolute and relative saliency",
            "D2D Table 3",
            {"absolute": "S_AS alone", "relative": "S_RS alone", "both": "both (D2D)"},
        ),
        ("Cross-detector repeatability", "D2D Table 5", {n: n for n in NETWORKS}),
    ],
)
def test_published_ablations_are_those_of_the_data_file(heading, table, rows):
    section = PAGE.split(f"### {heading}")[1].split("\n#")[0]
    for row, title in rows.items():
        (line,) = re.findall(rf"^\| {re.escape(title)} \|(.*)\|$", section, re.MULTILINE)
        cells = [cell.strip() for cell in line.split("|")]
        assert [float(cell) for cell in cells[:4]] == [published_cell(table, row, network) for network in NETWORKS]
