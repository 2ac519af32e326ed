import csv

from posfeat_hloc.evaluation.tables import Column, Table

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
