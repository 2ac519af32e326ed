"""Tables of results: as text for the terminal, as CSV, as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

Value = str | int | float | None

_DASH = "\N{EN DASH}"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: "\\" + character for character in "&%$#_{}"
}


@dataclass(frozen=True)
class Column:
    """One column: its title, and how its numbers are printed (CSV has all digits)."""

    title: str
    format: str = ""


@dataclass
class Table:
    """Rows of values; None is printed as a dash and left empty in CSV."""

    columns: Sequence[Column]
    rows: list[Sequence[Value]] = field(default_factory=list)

    def as_text(self) -> str:
        """Aligned columns, numbers to the right."""
        titles = [column.title for column in self.columns]
        cells = [self._cells(row, _DASH) for row in self.rows]
        widths = [max(len(row[i]) for row in [titles, *cells]) for i in range(len(titles))]
        left = self._left()

        def line(row: Sequence[str]) -> str:
            padded = [c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(row, widths, left, strict=True)]
            return "  ".join(padded).rstrip()

        return "\n".join([line(titles), line(["-" * width for width in widths]), *map(line, cells)])

    def as_csv(self) -> str:
        """A header and the values with all their digits."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([column.title for column in self.columns])
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return buffer.getvalue()

    def as_latex(self) -> str:
        """A ``tabular`` for the package booktabs."""
        form = "".join("l" if is_left else "r" for is_left in self._left())
        titles = [_escape(column.title) for column in self.columns]
        lines = [" & ".join(titles), *(" & ".join(map(_escape, self._cells(row, "--"))) for row in self.rows)]
        body = [line + r" \\" for line in lines]
        return "\n".join(
            [rf"\begin{{tabular}}{{{form}}}", r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule",
             r"\end{tabular}", ""]
        )  # fmt: skip

    def write(self, folder: Path, stem: str) -> None:
        """Write ``<stem>.csv`` and ``<stem>.tex``."""
        (folder / f"{stem}.csv").write_text(self.as_csv(), encoding="utf-8")
        (folder / f"{stem}.tex").write_text(self.as_latex(), encoding="utf-8")

    def _cells(self, row: Sequence[Value], dash: str) -> list[str]:
        return [
            dash if value is None else value if isinstance(value, str) else format(value, column.format)
            for value, column in zip(row, self.columns, strict=True)
        ]

    def _left(self) -> list[bool]:
        """Columns that hold text are aligned to the left."""
        return [any(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
