"""The page of matching accuracy."""

from __future__ import annotations

import csv
from pathlib import Path

from posfeat_hloc.report.charts import png_uri
from posfeat_hloc.report.folder import RunFolder
from posfeat_hloc.report.page import DASH, Block, Page, Picture, Rows, Section, Text
from posfeat_hloc.report.sections import repeat_section, timing_section


def fill(page: Page, folder: RunFolder, png: Path) -> None:
    """Add curves and tables from the files that the command wrote."""
    blocks: list[Block] = []
    plot = folder.file("mma.png")
    if plot is not None:
        data = plot.read_bytes()
        png.mkdir(parents=True, exist_ok=True)
        (png / "mma.png").write_bytes(data)
        caption = "Share of matches within each distance of the true position; thin and dashed lines are published."
        blocks.append(Picture(png_uri(data), caption, wide=True))
    table = _table(folder, "mma.csv")
    if table:
        blocks.append(table)
        ours = [row for row in table.rows if row[1] == "measured here"]
        page.figures += [(row[2], f"MMAscore of {row[0]}") for row in ours[:4]]
    if not blocks:
        page.notes.append("No results yet: mma.csv does not exist.")
        for record in sorted((folder.path / "measured").glob("*.jsonl")):
            count = record.read_bytes().count(b"\n")
            blocks.append(Text(f"{record.stem}: {count} image pairs measured so far"))
    if blocks:
        page.sections.append(Section("Mean matching accuracy", blocks))
    if each := _table(folder, "sequences.csv"):
        page.sections.append(Section("MMAscore of each sequence", [each], folded=len(each.rows) > 20))
    for section in (timing_section(folder, png), repeat_section(folder)):
        if section is not None:
            page.sections.append(section)


def _table(folder: RunFolder, name: str) -> Rows | None:
    """A CSV file with its numbers shortened to three decimals."""
    path = folder.file(name)
    if path is None:
        return None
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    return Rows(rows[0], [[_short(cell) for cell in row] for row in rows[1:]]) if rows else None


def _short(cell: str) -> str:
    try:
        number = float(cell)
    except ValueError:
        return cell or DASH
    return f"{number:.0f}" if number.is_integer() or abs(number) >= 100 else f"{number:.3f}"
