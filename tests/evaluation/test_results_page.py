"""docs/results.md repeats the published tables; it must not drift from the data the commands print."""

import re
from pathlib import Path

import pytest

from posfeat_hloc.evaluation.published import published_cell, published_models

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
