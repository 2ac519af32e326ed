"""Plots by matplotlib: each is a PNG below ``report/`` and the same image in the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from posfeat_hloc.report.page import Picture

BLUE, GREY, ORANGE, GREEN = "#2563eb", "#94a3b8", "#ea580c", "#0d9488"
_INK = "#334155"


def new_figure(width: float = 5.6, height: float = 3.1) -> Figure:
    """A figure in the style of the page; sides in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_picture(figure: Figure, path: Path, caption: str, title: str = "", wide: bool = False) -> Picture:
    """Write a figure as PNG and return it for the page."""
    for axes in figure.axes:
        axes.tick_params(colors=_INK, labelsize=8)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
        for spine in ("left", "bottom"):
            axes.spines[spine].set_color("#cbd5e1")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return Picture(png_uri(buffer.getvalue()), caption, wide, title)


def png_uri(data: bytes) -> str:
    """A data URI of a PNG."""
    return f"data:image/png;base64,{b64encode(data).decode()}"


def histogram(path: Path, values: ArrayLike, label: str, count: str, title: str, whole: bool = False) -> Picture:
    """How often values occur; those beyond the 99th percentile are put in the last bar.

    Args:
        path: of the PNG.
        values: ``(N,)``.
        label, count: of the axes.
        title: of the picture.
        whole: the values are whole numbers, one bar for each where they are few.
    """
    numbers = np.asarray(values, np.float64)
    figure = new_figure()
    axes = figure.subplots()
    middle = float(np.median(numbers)) if len(numbers) else 0.0
    if len(numbers):
        top = float(np.percentile(numbers, 99))
        bins: NDArray[np.float64] = np.linspace(min(0.0, float(numbers.min())), max(top, 1e-9), 31)
        if whole and top - numbers.min() < 40:
            bins = np.arange(numbers.min() - 0.5, np.ceil(top) + 1)
        axes.hist(np.minimum(numbers, bins[-1] - 1e-9), bins=bins.tolist(), color=BLUE, rwidth=0.88)
        axes.axvline(middle, color=ORANGE, lw=1.4, label=f"median {middle:.4g}")
        axes.set_ylim(top=1.15 * axes.get_ylim()[1])  # room for the legend
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel(label, color=_INK, fontsize=9)
    axes.set_ylabel(count, color=_INK, fontsize=9)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return as_picture(figure, path, f"{len(numbers)} values; the last bar holds all above it.", title)


def bars(path: Path, values: Mapping[str, float], label: str, title: str, caption: str, form: str = ".1f") -> Picture:
    """One horizontal bar for each name, with its value at the end."""
    figure = new_figure(height=0.9 + 0.34 * max(2, len(values)))
    axes = figure.subplots()
    names = list(values)
    drawn = axes.barh(names, list(values.values()), color=BLUE, height=0.62)
    axes.bar_label(drawn, [format(value, form) for value in values.values()], padding=4, fontsize=8, color=_INK)
    axes.margins(x=0.14)
    axes.invert_yaxis()
    axes.set_xlabel(label, color=_INK, fontsize=9)
    return as_picture(figure, path, caption, title)


def cumulative(path: Path, curves: Mapping[str, Sequence[float]], label: str, title: str, caption: str) -> Picture:
    """Share of items up to each value, a curve for each name; infinite values never come."""
    figure = new_figure()
    axes = figure.subplots()
    for color, (name, values) in zip((BLUE, ORANGE, GREEN, GREY), curves.items(), strict=False):
        ordered = np.sort(np.asarray(values, np.float64))
        known = ordered[np.isfinite(ordered)]
        if len(known):
            known = np.maximum(known, max(known[-1], 1e-9) / 1e4)  # zero has no place on a logarithmic axis
            axes.step(known, (np.arange(len(known)) + 1) / len(ordered), where="post", color=color, label=name, lw=2)
    axes.set_ylim(0, 1.02)
    if axes.lines:
        axes.set_xscale("log")
    axes.set_xlabel(label, color=_INK, fontsize=9)
    axes.set_ylabel("share of queries", color=_INK, fontsize=9)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    return as_picture(figure, path, caption, title)


def drawn(path: Path, draw: Callable[[Axes], None], caption: str, title: str, size: tuple[float, float]) -> Picture:
    """An image that ``draw`` makes on empty axes; ``size`` in inches."""
    figure = new_figure(*size)
    draw(figure.subplots())
    return as_picture(figure, path, caption, title)
