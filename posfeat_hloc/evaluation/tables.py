"""Tables of results, as text for the terminal, as CSV and as LaTeX, and plots of accuracy."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posfeat_hloc.evaluation.homography import GROUPS, THRESHOLDS, MmaResult

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

    def as_records(self) -> list[dict[str, Value]]:
        """Rows as title -> value, for JSON."""
        return [{c.title: value for c, value in zip(self.columns, row, strict=True)} for row in self.rows]

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


MISSING = "matplotlib is not installed: pip install 'posfeat-hloc[plot]'"


def plot_mma(path: Path, ours: Mapping[str, MmaResult], published: Mapping[str, MmaResult], title: str) -> str:
    """Draw MMA at 1..10 px, a panel for each group that was measured; the legend gives keypoints and matches.

    Measured curves are solid with dots, published ones thin and broken.

    Returns:
        why nothing was drawn; empty when ``path`` was written.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return MISSING
    groups = [group for group in GROUPS if any(group in result.curves for result in ours.values())]
    figure = Figure(figsize=(4.2 * len(groups) + 4.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    strong, many = colormaps["tab10"], colormaps["turbo"].resampled(max(1, len(published)))
    for group, panel in zip(groups, panels, strict=True):
        for i, (name, result) in enumerate(published.items()):
            panel.plot(THRESHOLDS, result.curves[group], ("--", "-.", ":")[i % 3], lw=1, color=many(i),
                       label=_legend(name, result))  # fmt: skip
        for i, (name, result) in enumerate(ours.items()):
            if group in result.curves:
                panel.plot(THRESHOLDS, result.curves[group], "o-", lw=2, ms=4, color=strong(i % 10),
                           label=_legend(name, result))  # fmt: skip
        panel.set(title=group, xlabel="threshold [px]", xlim=(0.8, 10.2), ylim=(0, 1.02), xticks=THRESHOLDS)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("MMA")
    handles, labels = panels[0].get_legend_handles_labels()
    order = [*range(len(published), len(handles)), *range(len(published))]  # measured first, but drawn on top
    figure.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside right upper", fontsize=8,
                  title="keypoints / matches; thin: published" if published else "keypoints / matches")  # fmt: skip
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    return ""


def plot_sweep(
    path: Path, values: Sequence[float], curves: Mapping[str, Sequence[float]], option: str, measure: str, title: str
) -> str:
    """Draw what a measure makes of the values of an option, a line for each feature (D2D figure 7).

    Returns:
        why nothing was drawn; empty when ``path`` was written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return MISSING
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, curve in curves.items():
        panel.plot(values, curve, "o-", lw=2, ms=4, label=name)
    panel.set(title=title, xlabel=option, ylabel=measure, xticks=values)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    return ""


def _legend(name: str, result: MmaResult) -> str:
    return f"{name}  ({result.keypoints:.0f} / {result.matches:.0f})"
